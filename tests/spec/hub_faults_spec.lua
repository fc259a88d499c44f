-- The Hub, from a stand-in on the loopback (tests/hub_server.py) that fails in every way a network can: whatever happens,
-- no wrong or half file gets its name, what there is is gone on with, and the message says what to do.
local wane = require "wane"
local lfs = require "lfs"
local process = require "support.process"
local stand_in = require "support.hub"
local core, hub = wane.core, wane.hub

if not stand_in.possible() then return end

local server = stand_in.start()
local dir, port = server.dir, server.port
local MODEL, NAME, SHA, WEIGHTS = server.MODEL, server.NAME, server.SHA, server.WEIGHTS
local function fresh() return server:fresh() end
local function scenario(kind) return server:scenario(kind) end
local function endpoint(name) return server:endpoint(name) end
local function settings(kind, more) return server:settings(kind, more) end
local function log(name) return server:log(name) end
local function requests(name, pattern) return server:requests(name, pattern) end
local tree, weights_are_right, blobs_are_right, failure = server.tree, server.weights_are_right, server.blobs_are_right, server.failure

teardown(function() server:stop() end)

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
    bareweak = { "gives no size and hash of", nil, 3 },
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

  for signal, row in pairs { INT = { 124, "interrupted" }, KILL = { 137, "" } } do
    it(("stays after SIG%s, which ends the program soon"):format(signal), function()
      local name, cache = scenario "slow", fresh()
      local began = core.clock()
      local before = ("env -u HF_TOKEN HF_HUB_OFFLINE=0 HF_ENDPOINT=%s HF_HUB_CACHE=%s timeout -s %s -k 5 2.5"):format(
        endpoint(name), cache, signal)
      local done = process.run_wane({ "get", "made/big" }, nil, before)
      assert.equal(row[1], done.code) -- timeout's own
      assert.is_truthy(done.err:find(row[2], 1, true), done.err)
      assert.equal("", done.out)
      assert.is_true(core.clock() - began < 7)
      local left
      for path in pairs(tree(cache)) do left = left or path:match "%x+%.incomplete$" end
      assert.is_truthy(left)
      local other = scenario "ok"
      hub.get("made/big", settings(other, { cache = cache }))
      assert.is_truthy(requests(other, "X%-Signature")[1].range)
      blobs_are_right(cache)
    end)
  end

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
    assert.is_true(err.requested > 1 << 45 and err.free < err.requested)
    assert.is_truthy(err.message:find("needed to fetch it", 1, true))
    assert.equal(1, #log(name))
  end)

  it("may hold a cache that cannot be written", function()
    core.files.write(dir .. "/file", "")
    failure("io", MODEL, settings(scenario "ok", { cache = dir .. "/file/cache" }))
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
