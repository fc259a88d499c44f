-- The Hub, from a stand-in on the loopback (tests/hub_server.py) that fails in every way a network can: whatever happens,
-- no wrong or half file gets its name, nothing is fetched twice, and the token goes where it belongs alone.
local wane = require "wane"
local lfs = require "lfs"
local process = require "support.process"
local core, hub = wane.core, wane.hub

if not pcall(core.hub.open, {}) then
  describe("a build without libcurl", function()
    it("says how to get one", function()
      local ok, err = pcall(hub.get, "a/b", { cache = "/nowhere", offline = false })
      assert.is_false(ok)
      assert.equal("unsupported", err.code)
      assert.is_truthy(err.message:find("apt-get install libcurl4-openssl-dev libssl-dev", 1, true))
    end)
  end)
  return
end

local dir = process.folder()
local TOKEN, COMMIT = "hf_aTokenThatNobodyMaySee", "0123456789abcdef0123456789abcdef01234567"
local LOG = dir .. "/log"
local server = assert(io.popen(("exec python3 tests/hub_server.py %s %s 2>%s/server.err"):format(LOG, dir, dir)))
local pid, port, cdn, tls = (server:read "l" or error "no server"):match "(%d+) (%d+) (%d+) (%d+)"
local MODEL, NAME = "lune/lune-1m", "model.safetensors"
local SHA = core.files.sha256_file("examples/models/lune-1m/" .. NAME)
local WEIGHTS = core.files.size("examples/models/lune-1m/" .. NAME)

teardown(function()
  os.execute("kill " .. pid)
  server:close()
  os.execute("rm -r " .. process.quote(dir))
end)

local folders, asked = 0, 0
local function fresh()
  folders = folders + 1
  return ("%s/%d"):format(dir, folders)
end

-- a scenario of its own: what it counts is its own, too
local function scenario(kind)
  asked = asked + 1
  return ("%s-%d"):format(kind, asked)
end

local function endpoint(name) return ("http://127.0.0.1:%s/%s"):format(port, name) end

-- options that leave the machine's own settings out
local function settings(kind, more)
  local o = { endpoint = endpoint(kind), cache = fresh(), token = TOKEN, offline = false, retries = 3, backoff = 0.02,
              idle = 1, connect = 5 }
  for name, value in pairs(more or {}) do o[name] = value end
  return o
end

-- requests of a scenario
local function log(name)
  local found = {}
  for line in core.files.read(LOG):gmatch "[^\n]+" do
    local entry = core.json.decode(line)
    if entry.scenario == name then found[#found + 1] = entry end
  end
  return found
end

local function requests(name, pattern)
  local found = {}
  for _, entry in ipairs(log(name)) do
    if entry.path:find(pattern) then found[#found + 1] = entry end
  end
  return found
end

-- paths of the files under a folder, links and all
local function tree(root)
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

local function weights_are_right(found) assert.equal(SHA, core.files.sha256_file(found.dir .. "/" .. NAME)) end

-- no blob whose bytes are not what its name says
local function blobs_are_right(cache)
  for path in pairs(tree(cache)) do
    local name = path:match "/blobs/(%x+)$"
    if name and #name == 64 then assert.equal(name, core.files.sha256_file(cache .. "/" .. path)) end
  end
end

-- the error of a get, which is of that code
local function failure(code, model, o)
  local ok, err = pcall(hub.get, model, o)
  assert.is_false(ok)
  assert.equal("table", type(err), tostring(err))
  assert.equal(code, err.code, err.message)
  for _, value in pairs(err) do
    assert.is_nil(tostring(value):find(TOKEN, 1, true))
    assert.is_nil(tostring(value):find("SECRET", 1, true))
    assert.is_nil(tostring(value):find("[%c\127]"))
  end
  if core.files.kind(o.cache) then blobs_are_right(o.cache) end
  return err
end

describe("an id", function()
  for text, wanted in pairs {
    ["Qwen/Qwen3-1.7B"] = { "Qwen/Qwen3-1.7B", "main" }, ["a/b@v1.0"] = { "a/b", "v1.0" },
    ["a/b@refs/pr/1"] = { "a/b", "refs/pr/1" }, ["a/b@" .. COMMIT] = { "a/b", COMMIT },
  } do
    it(text .. " is one", function() assert.same(wanted, { hub.parse(text) }) end)
  end
  for _, text in ipairs { "", "a", "a/b/c", "/a/b", "./a", "../a", "a/..", "a/b/", "~/b", "a/b@", "a/b@../x", "a/b@/x", "a/b@x//y",
    "a/b@x/", "a/b@.x", "a/b@x\ny", "a/b c", "a/b@x y", "a/b@x?y", "a--b/c", "a/b..c", "a/b.git", "-a/b", "a/" .. ("x"):rep(97),
    "a/b@" .. ("x"):rep(201), "a\\b/c", "a/b@-x", "a/b%2e", "Ä/b" } do
    it(("%q is none"):format(text), function() assert.is_nil(hub.parse(text)) end)
  end
end)

describe("a model of the Hub", function()
  it("comes into the cache as Python's tools lay it out, and loads", function()
    local name = scenario "ok"
    local o = settings(name)
    local found = hub.get(MODEL, o)
    local repo = o.cache .. "/models--lune--lune-1m"
    assert.equal(repo .. "/snapshots/" .. COMMIT, found.dir)
    assert.equal(COMMIT, core.files.read(repo .. "/refs/main"))
    assert.same({ MODEL, "main", COMMIT }, { found.id, found.revision, found.commit })
    assert.equal("../../blobs/" .. SHA, lfs.symlinkattributes(found.dir .. "/" .. NAME, "target"))
    local config = lfs.symlinkattributes(found.dir .. "/config.json", "target")
    assert.equal(40, #config:match "^%.%./%.%./blobs/(%x+)$")
    for _, f in ipairs(found.files) do
      assert.equal("fetched", f.from)
      assert.equal(core.files.read("examples/models/lune-1m/" .. f.name), core.files.read(found.dir .. "/" .. f.name))
      assert.equal("file", core.files.kind(("%s/.locks/models--lune--lune-1m/%s.lock"):format(o.cache, f.hash)))
    end
    local there = tree(o.cache)
    assert.is_true(there["CACHEDIR.TAG"])
    for path in pairs(there) do assert.is_nil(path:find "incomplete" or path:find "partial" or path:find "%.etag", path) end
    local model <close> = wane.load(found.dir)
    assert.equal("lune-1m", wane.fingerprint.name(model))
    assert.is_true(#model:generate({ "One" }, { max_tokens = 2 })[1].ids > 0)
  end)

  it("is what a model needs and no more", function()
    local o = settings(scenario "ok")
    local names = {}
    for i, f in ipairs(hub.get(MODEL, o).files) do names[i] = f.name end
    assert.same({ "chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                  NAME }, names)
  end)

  it("is not fetched again, but asked after", function()
    local name = scenario "ok"
    local o = settings(name)
    hub.get(MODEL, o)
    local before = #log(name)
    local found = hub.get(MODEL, o)
    assert.equal(before + 1, #log(name))
    for _, f in ipairs(found.files) do assert.equal("present", f.from) end
    hub.get(MODEL .. "@" .. COMMIT, o) -- a commit never changes: nobody is asked
    assert.equal(before + 1, #log(name))
  end)

  it("has its token sent to the Hub alone, and everything asked for as it is", function()
    local name = scenario "ok"
    hub.get(MODEL, settings(name))
    local seen = { hub = 0, cdn = 0 }
    for _, entry in ipairs(log(name)) do
      seen[entry.server] = seen[entry.server] + 1
      assert.equal(entry.server == "hub" and "Bearer " .. TOKEN or nil, entry.auth)
      assert.equal("identity", entry.encoding)
    end
    assert.is_true(seen.hub >= 7 and seen.cdn >= 1)
  end)

  it("is known by revisions of every kind", function()
    local name = scenario "ok"
    local o = settings(name)
    local repo = o.cache .. "/models--made--small"
    for _, revision in ipairs { "v1", "refs/pr/1", "main" } do
      assert.equal(COMMIT, hub.get("made/small@" .. revision, o).commit)
      assert.equal(COMMIT, core.files.read(repo .. "/refs/" .. revision))
    end
    hub.get("made/small@" .. COMMIT, o)
    assert.is_nil(core.files.kind(repo .. "/refs/" .. COMMIT))
    assert.equal(1, #requests(name, "refs%%2Fpr%%2F1"))
  end)

  it("may have shards: those that the index names, several at once", function()
    local name = scenario "slow"
    local o = settings(name, { retries = 0 })
    local found = hub.get("made/sharded", o)
    local shards = 0
    for _, f in ipairs(found.files) do
      if f.name:find "^model%-0000%d%-of%-00006%.safetensors$" then shards = shards + 1 end
      assert.is_nil(f.name:find "stray" or f.name:find "^model%.safetensors$")
    end
    assert.equal(6, shards)
    assert.is_true(found.seconds < 6 * 0.5) -- each drips for half a second
    blobs_are_right(o.cache)
  end)

  it("needs no token", function()
    local name = scenario "ok"
    local o = settings(name)
    o.token = nil
    hub.get("made/small", settings(name, { token = "x" }))
    for _, entry in ipairs(log(name)) do assert.equal("Bearer x", entry.auth) end
  end)

  it("may be told of by a redirect within the Hub, where the token goes along", function()
    local name = scenario "relative"
    weights_are_right(hub.get(MODEL, settings(name)))
    local again = requests(name, "/again/")
    assert.is_true(#again > 0)
    for _, entry in ipairs(again) do assert.equal("Bearer " .. TOKEN, entry.auth) end
  end)

  it("may come from another name of this machine, where the token does not go along", function()
    local name = scenario "named"
    weights_are_right(hub.get(MODEL, settings(name)))
    local seen
    for _, entry in ipairs(log(name)) do
      if entry.host:find "^localhost" then
        seen = true
        assert.is_nil(entry.auth)
      end
    end
    assert.is_true(seen)
  end)
end)

describe("a fault that passes", function()
  -- kind -> how many requests the weights then take, and whether the second goes on where the first ended
  for kind, row in pairs {
    cut = { 2, true }, retag = { 2, true }, norange = { 2, true }, range416 = { 3, true }, otherrange = { 3, true },
    othertotal = { 3, true }, weaktag = { 2, true }, oddtag = { 2, true }, wildtag = { 2, true }, hashonce = { 2, false },
    hashpart = { 3, true }, expired = { 2, false }, stall = { 2, true }, closecut = { 2, true }, close = { 1, false },
  } do
    it(kind .. " costs no more than it must", function()
      local name = scenario(kind)
      local o = settings(name)
      local found = hub.get(MODEL, o)
      weights_are_right(found)
      local bodies = requests(name, "X%-Signature")
      assert.equal(row[1], #bodies)
      assert.equal(row[2], (bodies[2] or {}).range ~= nil)
      for path in pairs(tree(o.cache)) do assert.is_nil(path:find "incomplete", path) end
    end)
  end

  it("is asked about with the tag that the server gave, if that says anything about bytes", function()
    local tags = {}
    for _, kind in ipairs { "cut", "weaktag", "oddtag", "wildtag" } do
      local name = scenario(kind)
      hub.get(MODEL, settings(name))
      tags[kind] = requests(name, "X%-Signature")[2].if_range or "none"
    end
    assert.same({ cut = '"cdn-0"', weaktag = "none", oddtag = '"' .. ("a/b"):rep(100) .. '"', wildtag = "none" }, tags)
  end)

  it("is waited for as Retry-After says", function()
    for _, kind in ipairs { "s429", "s429date" } do
      local name = scenario(kind)
      local began = core.clock()
      hub.get("made/small", settings(name))
      local took = core.clock() - began
      assert.is_true(took > 0.8 and took < 10, kind .. " took " .. took)
    end
  end)

  it("of the server is tried again", function()
    local name = scenario "s503"
    hub.get("made/small", settings(name))
    assert.equal(3, #requests(name, "/api/"))
  end)

  it("does not count against a file that grows with each attempt", function()
    local name = scenario "creep"
    local o = settings(name, { retries = 1 })
    local found = hub.get("made/big", o)
    blobs_are_right(o.cache)
    assert.is_true(#requests(name, "X%-Signature") >= 5)
    assert.equal(6000000, core.files.size(found.dir .. "/" .. NAME))
  end)
end)

describe("a fault that stays", function()
  -- kind -> what the message says, the status, and how many requests there are at most
  for kind, row in pairs {
    s500 = { "HTTP 500, after 4 attempts", 500, 4 },
    busy = { "asks to wait 3600 s", 429, 1 },
    html = { "is no listing of a model", nil, 1 },
    html302 = { "is no listing of a model", nil, 2, "html" },
    htmlfile = { "bytes where the file has", 200 },
    hopping = { "more than ten redirects", 302, 11 },
    nowhere = { "does not say where to", 302, 1 },
    heads = { "head of the answer is longer", 200, 1 },
    garbage = { "HTTP/0.9", nil, 1 },
    hangup = { "after 4 attempts", nil, 4 },
    endless = { "longer than the 16777216 bytes", 200, 1 },
    deep = { "is no listing of a model", nil, 1 },
    twice = { "is no listing of a model", nil, 1 },
    list = { "is no listing of a model", nil, 1 },
    badsha = { "is no listing of a model", nil, 1 },
    hashes = { "does not list size and hash", nil, 1 },
    longhash = { "does not list size and hash", nil, 1 },
    bare = { "does not list size and hash", nil, 1 },
    sizes = { "does not list size and hash", nil, 1 },
    unauthorized = { "no such model", 401, 1 },
    missing = { "no such model", 404, 1 },
    norevision = { "no revision main", 404, 1 },
    entry = { "lists a file and does not have it", 404 },
    gone = { "lists a file and does not have it", 404 },
    gated = { "accept its terms at " .. "http://127.0.0.1:" .. port, 403 },
    hash = { "do not have the hash", 200 },
    gzip = { "compressed", 200 },
    short = { "bytes where the file has", 200 },
    longer = { "bytes where the file has", 200 },
    flood = { "more bytes came than", 200 },
    changed = { "has changed on the server", 302 },
    file = { "a redirect to file:///etc/passwd, which is not followed", 302 },
    ftp = { "which is not followed", 302 },
    plain = { "a redirect to http://huggingface.invalid/x, which is not followed", 302 },
    user = { "which is not followed", 302 },
    long = { "too long", 302 },
    cutall = { "after 4 attempts", 206 },
  } do
    it(kind .. " is told", function()
      local name = scenario(kind)
      local o = settings(name)
      local err = failure("network", MODEL, o)
      assert.is_truthy(err.message:find(row[1], 1, true), err.message)
      assert.is_truthy(err.message:find("^lune/lune%-1m: "), err.message)
      assert.equal(row[2], err.status)
      if row[3] then assert.is_true(#log(row[4] or name) <= row[3], #log(name) .. " requests") end
      if err.status then assert.is_truthy(err.url:find("^http://")) end
      assert.is_nil(core.files.kind(("%s/models--lune--lune-1m/blobs/%s"):format(o.cache, SHA)))
      assert.is_nil(core.files.kind(o.cache .. "/models--lune--lune-1m/refs/main"))
    end)
  end

  it("gives what to do where a model is gated, with the server's own code", function()
    local err = failure("network", MODEL, settings(scenario "gated"))
    assert.equal("GatedRepo", err.reason)
    assert.is_truthy(err.message:find("HF_TOKEN", 1, true))
    assert.is_truthy(err.message:find("the token that is set does not open it", 1, true))
  end)

  it("is no reason to wait where there is no server", function()
    local o = settings("ok", { endpoint = "http://127.0.0.1:1/x", retries = 5, backoff = 10 })
    local began = core.clock()
    local err = failure("network", MODEL, o)
    assert.is_true(core.clock() - began < 5)
    assert.is_nil(err.status)
    assert.is_truthy(err.message:find("is the network up", 1, true), err.message)
  end)

  it("is an endpoint that is none", function()
    for _, text in ipairs { "huggingface.co/x y", "ftp://127.0.0.1", "http://me:word@127.0.0.1/", "file:///tmp", "" } do
      local err = failure("network", MODEL, settings("ok", { endpoint = text }))
      assert.is_truthy(err.message:find("HF_ENDPOINT", 1, true), err.message)
      assert.is_nil(err.message:find("word", 1, true))
    end
  end)

  it("keeps a token over plain http on this machine", function()
    local name = scenario "ok"
    local o = settings(name, { endpoint = ("http://127.0.0.2.nip.invalid:%s/%s"):format(port, name) })
    failure("network", MODEL, o)
    assert.same({}, log(name))
  end)

  it("is a token that would end its header", function()
    for _, token in ipairs { "a\r\nX: y", "a b", "\u{e4}" } do
      assert.error_matches(function() hub.get(MODEL, settings("ok", { token = token })) end, "visible letters")
    end
  end)
end)

describe("names from a server", function()
  it("are plain names or left out", function()
    local o = settings(scenario "names")
    weights_are_right(hub.get(MODEL, o))
    for path in pairs(tree(dir)) do assert.is_nil(path:find "evil" or path:find "%.bashrc", path) end
  end)

  for _, which in ipairs { "1", "2", "3", "4" } do
    it(("in an index are plain names, too (%s)"):format(which), function()
      local err = failure("format", "made/climbing" .. which, settings(scenario "ok"))
      assert.is_truthy(err.message:find("no plain name", 1, true), err.message)
    end)
  end

  it("that are not there are told", function()
    for model, text in pairs { ["made/pickled"] = "no weights as model.safetensors, only pytorch_model.bin",
      ["made/nothing"] = "no config.json" } do
      local err = failure("unsupported", model, settings(scenario "ok"))
      assert.is_truthy(err.message:find(text, 1, true), err.message)
    end
  end)
end)

describe("what an interruption left", function()
  -- a partial file of the weights, as an attempt that was cut leaves it
  local function begun(more)
    local o = settings(scenario "cutall", more)
    o.retries = 0
    failure("network", MODEL, o)
    local partial = ("%s/models--lune--lune-1m/blobs/%s.incomplete"):format(o.cache, SHA)
    assert.equal(200000, core.files.size(partial))
    return o, partial
  end

  it("is gone on with", function()
    local o = begun()
    local name = scenario "ok"
    o.endpoint = endpoint(name)
    local found = hub.get(MODEL, o)
    weights_are_right(found)
    assert.is_true(found.received < WEIGHTS - 200000 + 2000)
    local request = requests(name, "X%-Signature")[1]
    assert.same({ "bytes=200000-", '"cdn-0"' }, { request.range, request.if_range })
  end)

  it("is thrown away where it is of other bytes", function()
    local o, partial = begun()
    core.files.write(partial, ("x"):rep(300000))
    local name = scenario "ok"
    o.endpoint = endpoint(name)
    weights_are_right(hub.get(MODEL, o))
    local bodies = requests(name, "X%-Signature")
    assert.same({ "bytes=300000-", false }, { bodies[1].range, bodies[2].range or false })
  end)

  it("is thrown away where it is too long, and taken where it is whole", function()
    local o, partial = begun()
    core.files.write(partial, ("x"):rep(WEIGHTS + 1))
    local name = scenario "ok"
    o.endpoint = endpoint(name)
    weights_are_right(hub.get(MODEL, o))
    assert.is_nil(requests(name, "X%-Signature")[1].range)
    o, partial = begun()
    core.files.write(partial, core.files.read("examples/models/lune-1m/" .. NAME))
    name = scenario "ok"
    o.endpoint = endpoint(name)
    weights_are_right(hub.get(MODEL, o))
    assert.same({}, requests(name, NAME))
  end)

  it("does not lead elsewhere by a link", function()
    local o, partial = begun()
    os.remove(partial)
    core.files.write(dir .. "/innocent", "mine")
    assert(lfs.link(dir .. "/innocent", partial, true))
    o.endpoint = endpoint(scenario "ok")
    failure("io", MODEL, o)
    assert.equal("mine", core.files.read(dir .. "/innocent"))
  end)

  it("stays after Ctrl-C, which ends the program soon", function()
    local name, cache = scenario "slow", fresh()
    local began = core.clock()
    local before = ("env -u HF_TOKEN HF_HUB_OFFLINE=0 HF_ENDPOINT=%s HF_HUB_CACHE=%s timeout -s INT -k 5 1.5"):format(
      endpoint(name), cache)
    local done = process.run_wane({ "get", "made/big" }, nil, before)
    assert.equal(124, done.code) -- timeout's own
    assert.is_truthy(done.err:find("interrupted", 1, true), done.err)
    assert.equal("", done.out)
    assert.is_true(core.clock() - began < 4)
    local left
    for path in pairs(tree(cache)) do left = left or path:match "%x+%.incomplete$" end
    assert.is_truthy(left)
    local other = scenario "ok"
    local o = settings(other, { cache = cache })
    hub.get("made/big", o)
    assert.is_truthy(requests(other, "X%-Signature")[1].range)
    blobs_are_right(cache)
  end)

  it("stays where the disk is full, with what was asked for and is free", function()
    local name, cache = scenario "ok", fresh()
    local env = ("env HF_HUB_OFFLINE=0 HF_ENDPOINT=%s HF_HUB_CACHE=%s"):format(endpoint(name), cache)
    local script = "local ok, e = pcall(require 'wane'.hub.get, 'made/big'); print(e.code, e.requested, e.message)"
    local done = process.run(("trap '' XFSZ; ulimit -f 2000; %s %s -e %s"):format(env, process.quote(process.wane),
      process.quote(script)))
    assert.is_truthy(done.out:find("^io\t%d+\tcannot write .*free there; make room"), done.out .. done.err)
    blobs_are_right(cache)
    hub.get("made/big", settings(name, { cache = cache }))
    blobs_are_right(cache)
  end)
end)

describe("the disk", function()
  it("must have room before anything is fetched", function()
    local name = scenario "vast"
    local err = failure("io", MODEL, settings(name))
    assert.is_true(err.requested > 1 << 46 and err.free < err.requested)
    assert.is_truthy(err.message:find("to fetch", 1, true))
    assert.equal(1, #log(name))
  end)

  it("may hold a cache that cannot be written", function()
    core.files.write(dir .. "/file", "")
    failure("io", MODEL, settings(scenario "ok", { cache = dir .. "/file/cache" }))
  end)
end)

describe("without a network", function()
  local o
  setup(function()
    o = settings(scenario "ok")
    hub.get(MODEL, o)
  end)

  it("the cache is enough", function()
    local name = scenario "ok"
    local found = hub.get(MODEL, { cache = o.cache, offline = true, endpoint = endpoint(name) })
    weights_are_right(found)
    assert.equal(COMMIT, found.commit)
    assert.equal(6, #found.files)
    assert.equal(0, found.received)
    assert.same({}, log(name))
  end)

  it("what the cache lacks is told", function()
    local other = { cache = o.cache, offline = true, endpoint = endpoint "none" }
    assert.is_truthy(failure("network", "lune/other", other).message:find("the cache has nothing of it", 1, true))
    assert.is_truthy(failure("network", MODEL .. "@v9", other).message:find("HF_HUB_OFFLINE", 1, true))
    local part = settings(scenario "gone")
    failure("network", MODEL, part)
    core.files.mkdir(part.cache .. "/models--lune--lune-1m/refs")
    core.files.write(part.cache .. "/models--lune--lune-1m/refs/main", COMMIT)
    part.offline = true
    assert.is_truthy(failure("network", MODEL, part).message:find("lacks model.safetensors", 1, true))
    assert.same({}, log "none")
  end)

  it("the cache's copy is used where the Hub is down, and that is said", function()
    for _, where in ipairs { "http://127.0.0.1:1", endpoint(scenario "s500") } do
      local done = process.run_wane({ "get", MODEL }, nil,
        ("env HF_HUB_OFFLINE=0 HF_ENDPOINT=%s HF_HUB_CACHE=%s timeout 60"):format(where, o.cache))
      assert.equal(0, done.code, done.err)
      assert.is_truthy(done.out:find("/snapshots/" .. COMMIT, 1, true))
      assert.is_truthy(done.err:find("the cache's copy is used", 1, true), done.err)
    end
  end)

  it("a folder can be filled from the cache, and a damaged blob is found", function()
    local to = fresh()
    local found = hub.get(MODEL, { cache = o.cache, offline = true, to = to, endpoint = endpoint "none" })
    weights_are_right(found)
    for _, f in ipairs(found.files) do assert.equal("copied", f.from) end
    local copy = fresh()
    os.execute(("cp -r %s %s"):format(o.cache, copy))
    local blob = ("%s/models--lune--lune-1m/blobs/%s"):format(copy, SHA)
    core.files.write(blob, ("x"):rep(WEIGHTS))
    local ok, err = pcall(hub.get, MODEL, { cache = copy, offline = true, to = fresh(), endpoint = endpoint "none" })
    assert.is_false(ok)
    assert.is_truthy(err.message:find("not with the right hash", 1, true), err.message)
    assert.same({}, log "none")
  end)
end)

describe("a folder of one's own", function()
  it("gets files, not links, once", function()
    local name, to = scenario "ok", fresh() .. "/deep/er"
    local o = settings(name, { to = to })
    local found = hub.get(MODEL, o)
    assert.equal(to, found.dir)
    weights_are_right(found)
    assert.equal("file", lfs.symlinkattributes(to .. "/" .. NAME, "mode"))
    assert.equal(6, #core.files.list(to))
    local before = #requests(name, "/resolve/")
    for _, f in ipairs(hub.get(MODEL, o).files) do assert.equal("present", f.from) end
    assert.equal(before, #requests(name, "/resolve/"))
  end)

  it("is not written over", function()
    local to = fresh()
    core.files.mkdir(to)
    core.files.write(to .. "/config.json", "{ \"mine\": true }")
    failure("io", MODEL, settings(scenario "ok", { to = to }))
    assert.equal("{ \"mine\": true }", core.files.read(to .. "/config.json"))
  end)

  it("goes on from where it was", function()
    local to = fresh()
    local o = settings(scenario "cutall", { to = to, retries = 0 })
    failure("network", MODEL, o)
    local name = scenario "ok"
    o.endpoint = endpoint(name)
    weights_are_right(hub.get(MODEL, o))
    assert.equal("bytes=200000-", requests(name, "X%-Signature")[1].range)
    assert.equal(6, #core.files.list(to))
  end)
end)

describe("a blob", function()
  it("that is damaged is found and fetched again where that is asked for", function()
    local o = settings(scenario "ok")
    local found = hub.get(MODEL, o)
    local path = found.dir .. "/" .. NAME
    local file = assert(io.open(path, "r+b"))
    file:seek("set", 70000)
    file:write "?!"
    file:close()
    hub.get(MODEL, o)
    assert.not_equal(SHA, core.files.sha256_file(path))
    local name = scenario "ok"
    o.endpoint, o.verify = endpoint(name), true
    local again = hub.get(MODEL, o)
    weights_are_right(again)
    assert.equal(1, #requests(name, "/resolve/"))
    for _, f in ipairs(again.files) do assert.equal(f.name == NAME and "fetched" or "present", f.from) end
  end)

  it("of another size is fetched again unasked", function()
    local o = settings(scenario "ok")
    local found = hub.get(MODEL, o)
    os.execute(("truncate -s 100 %s/models--lune--lune-1m/blobs/%s"):format(o.cache, SHA))
    weights_are_right(hub.get(MODEL, o))
    assert.is_truthy(found)
  end)

  it("is fetched by one process, for which the others wait", function()
    local name, cache = scenario "slow", fresh()
    local command = ("env HF_HUB_OFFLINE=0 HF_ENDPOINT=%s HF_HUB_CACHE=%s timeout 60 %s get %s"):format(endpoint(name), cache,
      process.quote(process.wane), MODEL)
    local done = process.run(("%s & one=$!; %s; a=$?; wait $one; exit $((a + $?))"):format(command, command))
    assert.equal(0, done.code, done.err)
    assert.equal(1, #requests(name, "X%-Signature"))
    blobs_are_right(cache)
  end)

  it("is waited for while Python's tools hold its lock, which is a flock", function()
    local name = scenario "ok"
    local o = settings(name)
    local lock = ("%s/.locks/models--lune--lune-1m/%s.lock"):format(o.cache, SHA)
    core.files.mkdir(lock:match "^(.*)/")
    local holder = assert(io.popen(([[exec python3 -c "import fcntl, time
f = open('%s', 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(1)"]]):format(lock)))
    assert.equal("held", holder:read "l")
    local began = core.clock()
    weights_are_right(hub.get(MODEL, o))
    assert.is_true(core.clock() - began > 0.7)
    holder:close()
  end)
end)

describe("over TLS", function()
  local has = tls ~= "0"
  local function at(name) return ("https://localhost:%s/%s"):format(tls, name) end
  local function get(name, env, script)
    return process.run(("env %s HF_HUB_OFFLINE=0 HF_TOKEN=%s HF_ENDPOINT=%s HF_HUB_CACHE=%s timeout 60 %s -e %s"):format(env, TOKEN,
      at(name), fresh(), process.quote(process.wane), process.quote(script)))
  end
  local script = "local ok, e = pcall(require 'wane'.hub.get, 'made/small'); print(ok, ok or e.code, ok or e.message)"
    .. " local ok, e = pcall(require 'wane'.hub.get, 'lune/lune-1m'); print(ok, ok or e.code, ok or e.message)"

  it("a certificate that nobody vouches for ends it, before the token is sent", function()
    if not has then return end
    local name = scenario "ok"
    local done = get(name, "-u SSL_CERT_FILE -u CURL_CA_BUNDLE -u REQUESTS_CA_BUNDLE", script)
    assert.is_truthy(done.out:find("^false\tnetwork\t.*SSL_CERT_FILE"), done.out .. done.err)
    assert.same({}, log(name))
  end)

  it("one that is vouched for does, but no redirect leads out of it", function()
    if not has then return end
    local name = scenario "ok"
    local done = get(name, "SSL_CERT_FILE=" .. process.quote(dir .. "/cert.pem"), script)
    assert.is_truthy(done.out:find("^true\ttrue\ttrue\nfalse\tnetwork\t"), done.out .. done.err)
    assert.is_truthy(done.out:find("a redirect to http://127.0.0.1:" .. cdn, 1, true), done.out)
    for _, entry in ipairs(log(name)) do assert.same({ "tls", "Bearer " .. TOKEN }, { entry.server, entry.auth }) end
  end)
end)

describe("the environment", function()
  local function told(env)
    local done = process.run(("env -i HOME=/home/x WANE_DEVICE=cpu OMP_WAIT_POLICY=passive %s %s -e %s"):format(env,
      process.quote(process.wane), process.quote("print(wane.json.encode(wane.hub.settings()))"):gsub("print", "local wane = "
      .. "require \"wane\" print", 1)))
    assert.equal(0, done.code, done.err)
    return core.json.decode(done.out)
  end

  it("is read as huggingface_hub reads it", function()
    core.files.mkdir(dir .. "/home")
    core.files.write(dir .. "/home/token", "hf_fromfile\n")
    core.files.write(dir .. "/othertoken", " hf_other ")
    assert.equal("/home/x/.cache/huggingface/hub", told "".cache)
    assert.equal("/c/huggingface/hub", told "XDG_CACHE_HOME=/c".cache)
    assert.equal("/h/hub", told "HF_HOME=/h".cache)
    assert.equal("/b", told "HF_HOME=/h HF_HUB_CACHE=/b".cache)
    assert.equal("/home/x/b", told "HF_HUB_CACHE=~/b HUGGINGFACE_HUB_CACHE=/l".cache)
    assert.equal("/l", told "HUGGINGFACE_HUB_CACHE=/l".cache)
    assert.equal("https://huggingface.co", told "".endpoint)
    assert.equal("https://hub.example", told "HF_ENDPOINT=https://hub.example/".endpoint)
    assert.is_nil(told "".token)
    assert.equal("hf_fromfile", told("HF_HOME=" .. dir .. "/home").token)
    assert.equal("hf_other", told("HF_HOME=" .. dir .. "/home HF_TOKEN_PATH=" .. dir .. "/othertoken").token)
    assert.equal("hf_set", told("HF_HOME=" .. dir .. "/home HF_TOKEN=hf_set").token)
    assert.is_nil(told("HF_TOKEN=hf_set HF_HUB_DISABLE_IMPLICIT_TOKEN=1").token)
    for value, wanted in pairs { ["1"] = true, TRUE = true, yes = true, on = true, ["0"] = false, [""] = false } do
      assert.equal(wanted, told("HF_HUB_OFFLINE=" .. value).offline)
    end
    assert.same({ 3, 4 }, { told("HF_HUB_ETAG_TIMEOUT=3").connect, told("HF_HUB_DOWNLOAD_TIMEOUT=4").idle })
  end)
end)

describe("wane.load", function()
  local cache
  setup(function()
    cache = fresh()
    hub.get(MODEL, settings(scenario "ok", { cache = cache }))
  end)

  local function load(text, env)
    local script = ("local wane = require 'wane' local ok, m = pcall(wane.load, %q) print(ok, ok and wane.fingerprint.name(m) "
      .. "or m.code, ok and m.dir or m.message)"):format(text)
    return process.run(("env -u HF_TOKEN HF_HUB_CACHE=%s %s timeout 60 %s -e %s"):format(cache, env, process.quote(process.wane),
      process.quote(script)))
  end

  it("takes an id, with or without a revision", function()
    for _, text in ipairs { MODEL, MODEL .. "@main", MODEL .. "@" .. COMMIT } do
      local done = load(text, "HF_HUB_OFFLINE=1")
      assert.is_truthy(done.out:find("^true\tlune%-1m\t" .. cache:gsub("%p", "%%%0")), done.out .. done.err)
    end
  end)

  it("asks nobody about what is a path", function()
    local name = scenario "ok"
    for _, text in ipairs { "./x", "/x/y", "a/b/c", "x", "examples/nothing", "lune/lune-1m/", "../x", "~/x" } do
      local done = load(text, "HF_HUB_OFFLINE=0 HF_ENDPOINT=" .. endpoint(name))
      assert.is_truthy(done.out:find("^false\tio\t.*there is no such folder"), done.out .. done.err)
    end
    assert.same({}, log(name))
  end)

  it("says of an id that is none that there is no such folder either", function()
    local done = load("no/such", "HF_HUB_OFFLINE=0 HF_ENDPOINT=" .. endpoint(scenario "missing"))
    assert.is_truthy(done.out:find("^false\tnetwork\tno/such: there is no such model .*no folder of that name"), done.out)
  end)
end)

describe("wane get", function()
  local function get(kind, ...)
    local cache = fresh()
    return process.run_wane({ "get", ... }, nil, ("env HF_TOKEN=%s HF_HUB_OFFLINE=0 HF_ENDPOINT=%s HF_HUB_CACHE=%s timeout 60")
      :format(TOKEN, endpoint(scenario(kind)), cache)), cache
  end

  it("prints the folder, and nothing else", function()
    local done, cache = get("ok", "made/small")
    assert.equal(0, done.code, done.err)
    assert.equal(("%s/models--made--small/snapshots/%s\n"):format(cache, COMMIT), done.out)
    assert.is_truthy(done.err:find("^made/small at 0123456789ab: 3 files, [^\r\27]*\n$"), done.err) -- no bar
  end)

  it("prints JSON where it is asked for", function()
    local to = fresh()
    local done = get("ok", "made/small@v1", "--to", to, "--json")
    local found = core.json.decode(done.out)
    assert.same({ "made/small", "v1", COMMIT, to, 3 }, { found.id, found.revision, found.commit, found.dir, #found.files })
  end)

  it("ends with the code of its failure, on stderr, without the token", function()
    for kind, code in pairs { gated = 10, missing = 10, vast = 6 } do
      local done = get(kind, MODEL)
      assert.equal(code, done.code, done.err)
      assert.equal("", done.out)
      assert.is_truthy(done.err:find("^wane: lune/lune%-1m: [^\n]*\n$"), done.err)
      assert.is_nil(done.err:find(TOKEN, 1, true))
    end
    for _, words in ipairs { { "nothing" }, { "made/small", "--too", "x" }, { "./here" } } do
      assert.equal(2, get("ok", table.unpack(words)).code)
    end
  end)
end)
