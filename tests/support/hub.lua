-- hub.lua: the stand-in for the Hugging Face Hub (tests/hub_server.py) as specs use it: scenarios with requests to look at,
-- options that leave the machine's own settings out, and what must hold whatever went wrong.
local wane = require "wane"
local assert = require "luassert"
local lfs = require "lfs"
local process = require "support.process"
local core, hub = wane.core, wane.hub

local stand_in = { TOKEN = "hf_aTokenThatNobodyMaySee", COMMIT = "0123456789abcdef0123456789abcdef01234567",
                   MODEL = "lune/lune-1m", NAME = "model.safetensors" }
stand_in.SHA = core.files.sha256_file("examples/models/lune-1m/" .. stand_in.NAME)
stand_in.WEIGHTS = core.files.size("examples/models/lune-1m/" .. stand_in.NAME)

--- Whether this wane was built with libcurl.
function stand_in.possible() return (pcall(core.hub.open, {})) end

--- A server with its folder; ends by stop.
function stand_in.start()
  local self = { dir = process.folder(), folders = 0, asked = 0 }
  self.log_file = self.dir .. "/log"
  self.pipe = assert(io.popen(("exec python3 tests/hub_server.py %s %s 2>%s/server.err"):format(self.log_file, self.dir,
    self.dir)))
  self.pid, self.port, self.cdn, self.tls = (self.pipe:read "l" or error "no server"):match "(%d+) (%d+) (%d+) (%d+)"
  return setmetatable(self, { __index = stand_in })
end

function stand_in:stop()
  os.execute("kill " .. self.pid)
  self.pipe:close()
  os.execute("rm -r " .. process.quote(self.dir))
end

--- A path that nobody else has.
function stand_in:fresh()
  self.folders = self.folders + 1
  return ("%s/%d"):format(self.dir, self.folders)
end

--- A scenario of its own: what it counts is its own, too.
function stand_in:scenario(kind)
  self.asked = self.asked + 1
  return ("%s-%d"):format(kind, self.asked)
end

function stand_in:endpoint(name) return ("http://127.0.0.1:%s/%s"):format(self.port, name) end

--- Options for hub.get.
function stand_in:settings(kind, more)
  local o = { endpoint = self:endpoint(kind), cache = self:fresh(), token = self.TOKEN, offline = false, retries = 3,
              backoff = 0.02, idle = kind:find "^stall" and 1 or 10, connect = 10 }
  for name, value in pairs(more or {}) do o[name] = value end
  return o
end

--- The requests of a scenario.
function stand_in:log(name)
  local found = {}
  if not core.files.kind(self.log_file) then return found end
  for line in core.files.read(self.log_file):gmatch "[^\n]+" do
    local entry = core.json.decode(line)
    if entry.scenario == name then found[#found + 1] = entry end
  end
  return found
end

function stand_in:requests(name, pattern)
  local found = {}
  for _, entry in ipairs(self:log(name)) do
    if entry.path:find(pattern) then found[#found + 1] = entry end
  end
  return found
end

--- Paths of the files under a folder, links and all.
function stand_in.tree(root)
  local found = {}
  local function walk(at)
    if core.files.kind(root .. at) ~= "directory" or lfs.symlinkattributes(root .. at, "mode") == "link" then
      found[at:sub(2)] = true
      return
    end
    for _, name in ipairs(core.files.list(root .. at)) do walk(at .. "/" .. name) end
  end
  walk ""
  return found
end

function stand_in.weights_are_right(found)
  assert.equal(stand_in.SHA, core.files.sha256_file(found.dir .. "/" .. stand_in.NAME))
end

--- No blob has bytes that are not what its name says.
function stand_in.blobs_are_right(cache)
  for path in pairs(stand_in.tree(cache)) do
    local name = path:match "/blobs/(%x+)$"
    if name and #name == 64 then assert.equal(name, core.files.sha256_file(cache .. "/" .. path)) end
  end
end

--- The error of a get, which is of that code and tells no secret.
function stand_in.failure(code, model, o)
  local ok, err = pcall(hub.get, model, o)
  assert.is_false(ok)
  assert.equal("table", type(err), tostring(err))
  assert.equal(code, err.code, err.message)
  for _, value in pairs(err) do
    assert.is_nil(tostring(value):find(stand_in.TOKEN, 1, true))
    assert.is_nil(tostring(value):find("SECRET", 1, true))
    assert.is_nil(tostring(value):find("[%c\127]"))
  end
  if core.files.kind(o.cache) then stand_in.blobs_are_right(o.cache) end
  return err
end

return stand_in
