--- Models of the Hugging Face Hub by their ids: from the cache that Python's tools share, else over the network.
-- The cache is huggingface_hub's: models--ORG--NAME/{blobs,refs,snapshots}, a blob named by its hash, the files of a
-- snapshot relative links to blobs, locks in .locks. What fetches, resumes and checks byte by byte is runtime/hub.
local core = require "wane.core"
local lfs = require "lfs"
local options = require "wane.options"
local progress = require "wane.progress"

local hub = {}

local MIB = 1 << 20
local LIST_MOST = 16 * MIB -- bytes of a repository's listing
local FILE_MOST = 1 << 45 -- bytes; so that sizes of all that a listing can hold add up
local SPARE = 1.05 -- of what is to be fetched must be free
local COMMIT = "^" .. ("%x"):rep(40) .. "$"

hub.spec = {
  { name = "to", kind = "string", doc = "folder for the files; the cache unless given" },
  { name = "verify", kind = "boolean", doc = "read the files that are there and fetch those with a wrong hash again" },
  { name = "weights", kind = "boolean", default = true, doc = "the safetensors too; else config and tokenizer alone" },
  { name = "offline", kind = "boolean", doc = "no network, only what the cache has; also $HF_HUB_OFFLINE" },
  { name = "retries", kind = "integer", default = 5, least = 0, most = 100, doc = "attempts after the first" },
  { name = "parallel", kind = "integer", default = 4, least = 1, most = 16, doc = "files at once" },
  { name = "endpoint", kind = "string", doc = "address of the Hub; else $HF_ENDPOINT" },
  { name = "cache", kind = "string", doc = "folder of the cache; else $HF_HUB_CACHE, or hub in $HF_HOME" },
  { name = "token", kind = "string", doc = "of your account there; else $HF_TOKEN, or the file token in $HF_HOME" },
  { name = "backoff", kind = "number", default = 1, least = 0, doc = "before the second attempt; doubles",
    unit = "seconds" },
  { name = "connect", kind = "number", least = 0.001, doc = "to connect, 10 unless given; also $HF_HUB_ETAG_TIMEOUT",
    unit = "seconds" },
  { name = "idle", kind = "number", least = 1, unit = "seconds",
    doc = "with next to nothing coming, 30 unless given; also $HF_HUB_DOWNLOAD_TIMEOUT" },
}

--- "ORG/NAME" or "ORG/NAME@REVISION" -> id, revision ("main" unless named); nothing where the text is no such id.
function hub.parse(text)
  local id, revision = text:match "^([^@]+)@(.+)$"
  id, revision = id or text, revision or "main"
  local org, name = id:match "^([%w][%w._-]*)/([%w][%w._-]*)$"
  if not org or #org > 96 or #name > 96 or id:find("%-%-") or id:find("%.%.") then return nil end
  if name:find("%.git$") or name:find("[.-]$") then return nil end
  local parts = "/" .. revision .. "/"
  if #revision > 200 or revision:find("[^%w._/+-]") or revision:find("%.%.") or parts:find("/[./-]") then return nil end
  return id, revision
end

local function env(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function seconds(name)
  local n = tonumber(env(name))
  return n and n > 0 and n < 1e6 and n or nil
end

local TRUE = { ["1"] = true, on = true, yes = true, ["true"] = true }
local function is_true(text) return text ~= nil and TRUE[text:lower()] == true end

local function expand(path)
  local home = os.getenv "HOME"
  return path and home and path:gsub("^~%f[/\0]", (home:gsub("%%", "%%%%"))) or path
end

-- the one word that a file holds; nil where there is no such file
local function line_of(path)
  if not path or core.files.kind(path) ~= "file" then return nil end
  local ok, text = pcall(core.files.read, path, 1 << 16)
  text = ok and text:match "^%s*(%S+)%s*$"
  return text or nil
end

--- Where the Hub is, where the cache lies, whether there is a token: options first, then the environment as
-- huggingface_hub reads it.
-- @return { endpoint, home, cache, token, offline, connect, idle, ca_file }; home and cache nil without $HOME
function hub.settings(given)
  local o = given or {}
  local base = env "XDG_CACHE_HOME" or env "HOME" and env "HOME" .. "/.cache"
  local home = expand(env "HF_HOME" or base and base .. "/huggingface")
  local cache = o.cache or env "HF_HUB_CACHE" or env "HUGGINGFACE_HUB_CACHE" or home and home .. "/hub"
  local implicit = not is_true(env "HF_HUB_DISABLE_IMPLICIT_TOKEN")
  local file = expand(env "HF_TOKEN_PATH" or home and home .. "/token")
  local token = o.token or implicit and (env "HF_TOKEN" or line_of(file))
  local offline = o.offline
  if offline == nil then offline = is_true(env "HF_HUB_OFFLINE") end
  return {
    endpoint = ((o.endpoint or env "HF_ENDPOINT" or "https://huggingface.co"):gsub("/+$", "")),
    home = home, cache = expand(cache), token = token and token:match "^%s*(.-)%s*$" or nil, offline = offline,
    connect = o.connect or seconds "HF_HUB_ETAG_TIMEOUT" or 10,
    idle = o.idle or seconds "HF_HUB_DOWNLOAD_TIMEOUT" or 30,
    ca_file = env "SSL_CERT_FILE" or env "CURL_CA_BUNDLE" or env "REQUESTS_CA_BUNDLE",
  }
end

local function refuse(code, id, message, more)
  local fields = more or {}
  fields.code, fields.op, fields.message = code, "get", ("%s: %s"):format(id, message)
  options.fail(fields)
end

-- whether a name from a server may become that of a file
local function plain(name) return #name <= 150 and name:find "^[%w][%w._-]*$" ~= nil end

local COMPANIONS = {}
for name in ([[config.json generation_config.json tokenizer.json tokenizer_config.json special_tokens_map.json
  added_tokens.json vocab.json merges.txt chat_template.jinja chat_template.json quantize_config.json quant_config.json
  wane.json LICENSE LICENSE.txt LICENSE.md NOTICE NOTICE.txt]]):gmatch "%S+" do COMPANIONS[name] = true end
local INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"

-- the shards that an index names, sorted
local function shards_of(path, id)
  local ok, index = pcall(core.json.load, path)
  local map = ok and type(index) == "table" and index.weight_map
  if type(map) ~= "table" then
    refuse("format", id, ("%s has no weight_map%s"):format(INDEX, ok and "" or ": " .. tostring(index)),
      { path = path })
  end
  local found, names = {}, {}
  for _, name in pairs(map) do
    if type(name) ~= "string" or not plain(name) or not name:find "%.safetensors$" then
      refuse("format", id, ("%s names a file %q, which is no plain name of a safetensors file"):format(INDEX,
        tostring(name):sub(1, 100)), { path = path })
    end
    if not found[name] then names[#names + 1] = name end
    found[name] = true
  end
  table.sort(names)
  return names
end

-- What a snapshot lacks of what a model needs; an empty list where it can be loaded.
local function lacking(dir, id, weights)
  local missing = {}
  local function need(name)
    if core.files.kind(dir .. "/" .. name) ~= "file" then missing[#missing + 1] = name end
  end
  need "config.json"
  need "tokenizer.json"
  if not weights then return missing end
  if core.files.kind(dir .. "/" .. INDEX) == "file" then
    for _, name in ipairs(shards_of(dir .. "/" .. INDEX, id)) do need(name) end
  else
    need(SINGLE)
  end
  return missing
end

local function repository(cache, id) return ("%s/models--%s"):format(cache, (id:gsub("/", "--"))) end

-- the commit that the cache has for a revision, or nil
local function cached_commit(repo, revision)
  if revision:find(COMMIT) then return revision end
  local commit = line_of(repo .. "/refs/" .. revision)
  return commit and commit:find(COMMIT) and commit
end

-- files of a snapshot as a listing has them: name -> { size, hash }, by their links
local function cached_files(dir)
  local files = {}
  if core.files.kind(dir) ~= "directory" then return files end
  for _, name in ipairs(core.files.list(dir)) do
    local hash = (lfs.symlinkattributes(dir .. "/" .. name, "target") or ""):match "^%.%./%.%./blobs/(%x+)$"
    local kind, size = core.files.kind(dir .. "/" .. name)
    if hash and kind == "file" and (#hash == 40 or #hash == 64) then files[name] = { size = size, hash = hash } end
  end
  return files
end

local function encode(text)
  return (text:gsub("[^%w._~-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function is_hash(text)
  return type(text) == "string" and (#text == 40 or #text == 64) and not text:find "[^0-9a-f]"
end

--- What the Hub says it has of a model: { commit, files = name -> { size, hash } }, of plain names alone; size and hash
-- are nil where they are none. nil and why for any other text.
function hub.listing(text)
  local ok, page = pcall(core.json.decode, text, "the answer")
  if not ok then
    if getmetatable(page) ~= core.error or page.code ~= "format" then error(page, 0) end
    return nil, page.message
  end
  local function field(t, name) return type(t) == "table" and t[name] or nil end
  local commit, siblings = field(page, "sha"), field(page, "siblings")
  if type(commit) ~= "string" or #commit ~= 40 or not is_hash(commit) or type(siblings) ~= "table" then
    return nil, "no commit and files in it"
  end
  local files = {}
  for _, entry in ipairs(siblings) do
    local name, lfs_part = field(entry, "rfilename"), field(entry, "lfs")
    if type(name) == "string" and plain(name) then
      local size, hash = field(lfs_part, "size") or entry.size, field(lfs_part, "sha256") or entry.blobId
      files[name] = { size = math.type(size) == "integer" and size >= 0 and size <= FILE_MOST and size or nil,
                      hash = is_hash(hash) and hash or nil }
    end
  end
  return { commit = commit, files = files }
end

local function list(client, s, id, revision)
  local url = ("%s/api/models/%s/revision/%s?blobs=true"):format(s.endpoint, id, encode(revision))
  local listing, why = hub.listing(client:fetch(url, LIST_MOST))
  if listing then return listing end
  return refuse("network", id, ("what %s answered is no listing of a model (%s); a login page of the network? see "
    .. "whether it opens in a browser"):format(s.endpoint, why:sub(1, 200)), { url = url:gsub("%?.*", "") })
end

-- Words for a refusal that people can do something about; the error keeps its url, status and reason.
local function explain(err, s, id, revision)
  local status, reason, at = err.status, err.reason, s.endpoint .. "/" .. id
  local text
  if reason == "GatedRepo" or (status == 403 and reason ~= "EntryNotFound") then
    text = ("this model is gated, or not open to your account: accept its terms at %s, make a token at "
      .. "%s/settings/tokens, and run it again with HF_TOKEN=... set"):format(at, s.endpoint)
    if s.token then text = text .. " (the token that is set does not open it)" end
  elseif status == 401 or reason == "RepoNotFound" then
    text = ("there is no such model at %s, or it is private or gated: check the spelling, or set HF_TOKEN to a token "
      .. "that may read it (%s/settings/tokens)"):format(s.endpoint, s.endpoint)
    if s.token then text = text .. "; the token that is set may have expired" end
  elseif reason == "RevisionNotFound" or (status == 404 and err.url and err.url:find("/revision/", 1, true)) then
    text = ("there is no revision %s, or no such model: see %s/tree/main"):format(revision, at)
  elseif status == 404 then
    text = ("the Hub lists a file and does not have it: %s; run it again"):format(err.url)
  elseif not status then
    text = err.message .. "; is the network up? a proxy is set with https_proxy"
  else
    text = err.message
  end
  err.op, err.message = "get", text:sub(1, #id + 1) == id .. ":" and text or ("%s: %s"):format(id, text)
  return err
end

-- runs f(...); a network error leaves it explained
local function explained(s, id, revision, f, ...)
  local ok, value = pcall(f, ...)
  if ok then return value end
  if getmetatable(value) == core.error and value.code == "network" and not value.op then
    explain(value, s, id, revision)
  end
  error(value, 0)
end

-- the nearest folder of a path that is there
local function standing(path)
  while core.files.kind(path) ~= "directory" do
    path = path:match "^(.+)/[^/]+/*$" or (path:sub(1, 1) == "/" and "/" or ".")
  end
  return path
end

-- Refuses to begin what the disk has no room for.
local function check_room(id, dir, files)
  local needed = 0
  for _, f in ipairs(files) do
    local kind = core.files.kind(f.path)
    local _, begun = core.files.kind(f.partial)
    if kind ~= "file" then needed = needed + math.max(0, f.size - (begun or 0)) end
  end
  local free = core.system.disk_free(standing(dir))
  if not free or needed * SPARE <= free then return end
  local size = core.device.format_bytes
  local wanted = math.ceil(needed * SPARE)
  refuse("io", id, ("%s needed to fetch it, %s free in %s; make room, or name another folder with HF_HOME or --to")
    :format(size(wanted), size(free), standing(dir)), { requested = wanted, free = free, path = dir })
end

local function address(job, name)
  return ("%s/%s/resolve/%s/%s"):format(job.settings.endpoint, job.id, job.listing.commit, encode(name))
end

-- Mirrors may list names alone: then sizes and hashes come with each file's head.
local function complete(client, job, names)
  for _, name in ipairs(names) do
    local f = job.listing.files[name]
    if not f.size or not f.hash then f.hash, f.size = client:look(address(job, name)) end
    if not f.size or not f.hash then
      refuse("network", job.id, ("%s gives no size and hash of %s as the Hub does; name another with HF_ENDPOINT")
        :format(job.settings.endpoint, name))
    end
  end
end

-- what client:add takes, for a file of a listing
local function file_entry(job, name)
  local f = job.listing.files[name]
  local blob = ("%s/blobs/%s"):format(job.repo, f.hash)
  local entry = { name = name, size = f.size, hash = f.hash, url = address(job, name) }
  if job.to then
    entry.path, entry.copy, entry.verify = ("%s/%s"):format(job.to, name), blob, true
    entry.partial = ("%s/.%s.%s.incomplete"):format(job.to, name, f.hash)
  else
    entry.path, entry.partial, entry.replace, entry.verify = blob, blob .. ".incomplete", true, job.verify
    entry.lock = ("%s/%s.lock"):format(job.locks, f.hash)
    entry.link, entry.target = ("%s/%s"):format(job.snapshot, name), "../../blobs/" .. f.hash
  end
  return entry
end

local function entries_of(job, names)
  local entries = {}
  for i, name in ipairs(names) do entries[i] = file_entry(job, name) end
  return entries
end

-- fetches all of the entries, which the client has not had before
local function fetch(client, job, entries)
  local first = #job.files
  for i, entry in ipairs(entries) do
    client:add(entry)
    job.files[first + i] = { name = entry.name, size = entry.size, hash = entry.hash }
  end
  local bar = is_true(env "HF_HUB_DISABLE_PROGRESS_BARS") and function() end or progress.bar(job.id .. " MiB")
  local began, before = core.clock(), job.received or 0
  local ok, p
  repeat
    ok, p = pcall(client.step, client, 0.25)
    if not ok then
      bar(1, 1)
      error(p, 0)
    end
    local speed = (p.received - before) / MIB / math.max(0.25, core.clock() - began)
    bar(p.bytes // MIB, p.finished and 0 or math.max(1, p.total // MIB),
      p.waiting or ("%s, %.1f MiB/s"):format(p.name or "", speed))
  until p.finished
  job.received = p.received
  for i, f in ipairs(job.files) do f.from = client:state(i) end
end

-- Names of the listing that are wanted before the weights are known, and the weights as far as they can be told.
local function first_names(job)
  local names, weights, other = {}, {}, nil
  for name in pairs(job.listing.files) do
    if COMPANIONS[name] or name == INDEX then names[#names + 1] = name end
    local shard = name:find "^model%-%d+%-of%-%d+%.safetensors$" ~= nil
    if job.listing.files[INDEX] and shard or not job.listing.files[INDEX] and name == SINGLE then
      weights[#weights + 1] = name
    end
    if name:find "%.bin$" or name:find "%.pth?$" or name:find "%.gguf$" then other = name end
  end
  table.sort(names)
  table.sort(weights)
  if not job.listing.files["config.json"] then
    refuse("unsupported", job.id, "there is no config.json: it is no model that wane reads")
  elseif not job.weights then
    weights = {}
  elseif not weights[1] and not job.listing.files[INDEX] then
    refuse("unsupported", job.id, ("there are no weights as model.safetensors%s; wane reads nothing else: look for "
      .. "a conversion, or for the model that this one was made from"):format(other and (", only %s"):format(other)
        or ""))
  end
  return names, weights
end

local function weight_names(job)
  if not job.weights then return {} end
  if not job.listing.files[INDEX] then return { SINGLE } end
  local names = shards_of((job.to or job.snapshot) .. "/" .. INDEX, job.id)
  for _, name in ipairs(names) do
    local f = job.listing.files[name]
    if not f or not f.hash then refuse("format", job.id, ("%s names %s, which is not there"):format(INDEX, name)) end
  end
  return names
end

local function make_folders(job)
  if job.to then return core.files.mkdir(job.to) end
  for _, dir in ipairs { job.repo .. "/blobs", job.snapshot } do core.files.mkdir(dir) end
  pcall(core.files.mkdir, job.locks) -- where nothing is to be fetched, none is needed
  local tag = job.settings.cache .. "/CACHEDIR.TAG" -- so that backups leave the cache out
  if not core.files.kind(tag) then
    pcall(core.files.write, tag, "Signature: 8a477f597d28d172789f06886806bc55\n# A cache: see bford.info/cachedir\n")
  end
end

-- a branch or tag as the cache keeps it
local function write_ref(job, revision)
  local path, commit = job.repo .. "/refs/" .. revision, job.listing.commit
  if job.to or revision == commit or line_of(path) == commit then return end
  local ok, err = pcall(function()
    core.files.mkdir(path:match "^(.*)/")
    core.files.write(path, commit)
  end)
  if not ok and err.code ~= "io" then error(err, 0) end -- a cache may be there to read alone
end

-- Beside a folder of one's own, what the Hub's client keeps there too: commit, hash and time of each file. It is what
-- wane check --verify compares with.
local function record(job)
  local folder = job.to .. "/.cache/huggingface"
  core.files.mkdir(folder .. "/download")
  core.files.write(folder .. "/.gitignore", "*")
  for _, f in ipairs(job.files) do
    core.files.write(("%s/download/%s.metadata"):format(folder, f.name),
      ("%s\n%s\n%d\n"):format(job.listing.commit, f.hash, os.time()))
  end
end

local function result_of(job, revision, began)
  local bytes = 0
  for _, f in ipairs(job.files) do bytes = bytes + f.size end
  return { id = job.id, revision = revision, commit = job.listing.commit, dir = job.to or job.snapshot,
           files = job.files, bytes = bytes, received = job.received or 0, seconds = core.clock() - began }
end

local function run(client, job)
  make_folders(job)
  local lock <close> = job.to and core.files.lock(job.to) or nil -- luacheck: ignore lock
  local names, weights = first_names(job)
  complete(client, job, names)
  complete(client, job, weights)
  local entries = entries_of(job, names)
  check_room(job.id, job.to or job.repo, table.move(entries_of(job, weights), 1, #weights, #entries + 1,
    table.move(entries, 1, #entries, 1, {})))
  fetch(client, job, entries)
  entries = entries_of(job, weight_names(job))
  check_room(job.id, job.to or job.repo, entries)
  fetch(client, job, entries)
  if job.to then record(job) end
end

-- A snapshot as a result, from the cache alone.
local function from_cache(job, commit, revision, began)
  job.listing = { commit = commit, files = cached_files(job.snapshot) }
  for name, f in pairs(job.listing.files) do
    job.files[#job.files + 1] = { name = name, size = f.size, hash = f.hash, from = "present" }
  end
  table.sort(job.files, function(a, b) return a.name < b.name end)
  return result_of(job, revision, began)
end

local function snapshot_of(job, commit) return ("%s/snapshots/%s"):format(job.repo, commit) end

local function no_cache(job, revision, commit, missing)
  local what = "the cache has nothing of it"
  if commit then what = ("the cache lacks %s of it"):format(table.concat(missing, ", ")) end
  refuse("network", job.id, ("%s at %s, and the network is not to be used; unset HF_HUB_OFFLINE, or: wane get %s@%s "
    .. "where it may be, and copy %s"):format(what, revision, job.id, revision, job.repo), { path = job.repo })
end

local function open_client(s, o, retries)
  return core.hub.open { endpoint = s.endpoint, token = s.token, ca_file = s.ca_file,
                         retries = retries or o.retries,
                         backoff = o.backoff, connect = s.connect, idle = s.idle, parallel = o.parallel,
                         offline = s.offline }
end

-- Asks the Hub what it has. Where it cannot be reached and the cache has a whole snapshot: nil and the error, soon.
local function ask(s, o, job, revision, usable)
  local ok, found = pcall(function()
    local client <close> = open_client(s, o, usable and math.min(o.retries, 1))
    return explained(s, job.id, revision, list, client, s, job.id, revision)
  end)
  if ok then return found end
  if getmetatable(found) ~= core.error then error(found, 0) end
  local code, status = found.code, found.status
  local away = code == "unsupported" -- built without libcurl
    or code == "network" and (not status or status < 400 or status == 429 or status >= 500)
  if not (away and usable) then error(found, 0) end
  return nil, found
end

--- The files of a model that wane needs: config, tokenizer, template, safetensors. Nothing is fetched twice, nothing
-- that is half or has a wrong hash gets its name, and what was interrupted goes on from where it was.
-- @param text string  "ORG/NAME" or "ORG/NAME@REVISION": a branch, a tag or a commit
-- @param given table or nil  see hub.spec
-- @return { id, revision, commit, dir, files = { { name, size, hash, from } }, bytes, received, seconds }
-- @error network (with url, and status where the server answered), io, format, unsupported, interrupted
-- @usage local dir = wane.hub.get "Qwen/Qwen3-1.7B".dir
function hub.get(text, given)
  local o = options.check(hub.spec, given, "wane.hub.get")
  local id, revision = hub.parse(text)
  if not id then
    options.fail { code = "usage", message = ("%q is no id of the Hub: ORG/NAME, or ORG/NAME@REVISION"):format(text) }
  end
  local s, began = hub.settings(o), core.clock()
  if not s.cache then
    options.fail { code = "usage", message = "neither HF_HOME nor HOME is set: there is no place for a cache" }
  end
  local repo = repository(s.cache, id)
  local job = { id = id, settings = s, repo = repo, verify = o.verify, weights = o.weights, files = {},
                to = o.to and (expand(o.to):gsub("(.)/+$", "%1")),
                locks = ("%s/.locks/%s"):format(s.cache, repo:match "[^/]+$") }
  local commit = cached_commit(repo, revision)
  job.snapshot = commit and snapshot_of(job, commit)
  local missing = commit and lacking(job.snapshot, id, o.weights)
  local whole = commit and not missing[1]
  local simple = not job.to and not o.verify
  if whole and simple and (s.offline or revision == commit) then return from_cache(job, commit, revision, began) end
  local listing, away
  if s.offline then
    if not whole then no_cache(job, revision, commit, missing) end
    listing = { commit = commit, files = cached_files(job.snapshot) }
  else
    listing, away = ask(s, o, job, revision, whole and simple)
    if not listing then
      progress.say(("wane: %s; the cache's copy is used, commit %s"):format(away.message, commit:sub(1, 12)))
      return from_cache(job, commit, revision, began)
    end
  end
  local client <close> = open_client(s, o)
  job.listing, job.snapshot = listing, snapshot_of(job, listing.commit)
  explained(s, id, revision, run, client, job)
  if not s.offline then write_ref(job, revision) end
  return result_of(job, revision, began)
end

--- The folder of a model that is named by a hub id, fetched if it must be; nil where the text names no hub id, or
-- something that is there. A text whose first part is a folder here is a path, not an id.
-- @param given options of hub.get, or nil
function hub.folder(text, given)
  if core.files.kind(text) or not hub.parse(text) or core.files.kind(text:match "^[^/]+") then return nil end
  local ok, found = pcall(hub.get, text, given)
  if ok then return found.dir end
  if getmetatable(found) == core.error and (found.code == "network" or found.code == "unsupported") then
    found.message = found.message .. " (there is no folder of that name either)"
  end
  error(found, 0)
end

--- The id of a model by its folder in a cache: "/x/models--ORG--NAME/snapshots/COMMIT" -> "ORG/NAME"; else nil.
function hub.id_of(dir)
  local org, name = dir:match "models%-%-([%w._-]-)%-%-([%w._-]+)/snapshots/%x+/*$"
  return org and ("%s/%s"):format(org, name)
end

return hub
