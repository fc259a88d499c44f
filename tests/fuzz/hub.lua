-- hub.lua - what a Hub lists of a model, a byte 0 and an index of shards: what would be fetched lies in the cache.
local core = require "wane.core"
local hub = require "wane.hub"

local folder = ... -- this process's own

local input, index, began -- the listing, the index, how many files are to be fetched
local client = {} -- instead of the one that goes over the network

function client.fetch() return input end

-- half of the files have a head that tells what the listing left out
function client.look(_, url)
  if #url % 2 == 0 then return ("0"):rep(40), 7 end
end

local function inside(path)
  assert(path:sub(1, #folder + 1) == folder .. "/", path)
  assert(not (path .. "/"):find("/%.%.?/"), path)
  assert(not path:find("[%c\\]"), path)
end

function client.add(_, entry)
  for _, field in ipairs { "path", "partial", "lock", "link" } do inside(entry[field]) end
  assert(entry.target:find("^%.%./%.%./blobs/%x+$"), entry.target)
  assert(entry.url:find("^https://hub%.test/o/n/resolve/%x+/[%w._%%-]+$"), entry.url)
  assert(math.type(entry.size) == "integer" and entry.size >= 0, "size")
  began = began + 1
  if entry.name == "model.safetensors.index.json" then
    local file <close> = assert(io.open(entry.link, "wb"))
    assert(file:write(index))
  end
end

function client.step() return { finished = true, received = 0, total = 0, bytes = 0 } end

function client.state() return "fetched" end

function core.hub.open() return setmetatable({}, { __index = client, __close = function() end }) end

return function(data)
  input, index = data:match "^([^\0]*)\0?(.*)$"
  began = 0
  local cache = folder .. "/hub"
  local ok, found = pcall(hub.get, "o/n", { cache = cache, endpoint = "https://hub.test", token = "t" })
  core.files.remove(cache)
  if not ok then error(found, 0) end
  assert(began > 0 and began == #found.files, "files")
  inside(found.dir)
end
