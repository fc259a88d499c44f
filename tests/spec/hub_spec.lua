-- The Hub, from a stand-in on the loopback (tests/hub_server.py): the cache is the one that Python's tools know, nothing is
-- fetched twice, and the token goes where it belongs alone. What fails is in hub_faults_spec.lua.
local wane = require "wane"
local lfs = require "lfs"
local process = require "support.process"
local stand_in = require "support.hub"
local core, hub = wane.core, wane.hub

if not stand_in.possible() then
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

local server = stand_in.start()
local dir = server.dir
local TOKEN, COMMIT, MODEL, NAME, SHA, WEIGHTS = server.TOKEN, server.COMMIT, server.MODEL, server.NAME, server.SHA, server.WEIGHTS
local function fresh() return server:fresh() end
local function scenario(kind) return server:scenario(kind) end
local function endpoint(name) return server:endpoint(name) end
local function settings(kind, more) return server:settings(kind, more) end
local function log(name) return server:log(name) end
local function requests(name, pattern) return server:requests(name, pattern) end
local tree, weights_are_right, blobs_are_right, failure = server.tree, server.weights_are_right, server.blobs_are_right, server.failure

teardown(function() server:stop() end)

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

  it("that is there needs no lock and writes nothing: a cache may be there to read alone", function()
    local o = settings(scenario "ok")
    hub.get(MODEL, o)
    os.execute("rm -r " .. o.cache .. "/.locks")
    local before = tree(o.cache)
    hub.get(MODEL, o)
    assert.same(before, tree(o.cache))
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

  it("takes tokens of any length", function()
    local name, token = scenario "ok", ("t"):rep(4000)
    hub.get("made/small", settings(name, { token = token }))
    assert.equal("Bearer " .. token, log(name)[1].auth)
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
    local most = 0
    for _, entry in ipairs(requests(name, "X%-Signature")) do most = math.max(most, entry.active) end
    assert.is_true(most >= 2 and most <= 4, most .. " at once")
    blobs_are_right(o.cache)
  end)

  it("needs no token, and on this machine no proxy", function()
    local name, cache = scenario "ok", fresh()
    local done = process.run_wane({ "get", "made/small" }, nil, ("env -u HF_TOKEN -u HF_TOKEN_PATH HF_HOME=%s HF_HUB_OFFLINE=0 "
      .. "HF_ENDPOINT=%s http_proxy=http://127.0.0.1:1 all_proxy=http://127.0.0.1:1 timeout 60"):format(cache, endpoint(name)))
    assert.equal(0, done.code, done.err)
    assert.is_true(#log(name) > 1)
    for _, entry in ipairs(log(name)) do assert.is_nil(entry.auth) end
  end)

  it("is told of on a terminal while it comes, unless that is switched off", function()
    local function terminal(variables)
      local steps = process.folder()
      core.files.write(steps .. "/steps", "gone 0\n")
      local done = process.run(("env -u HF_TOKEN -u NO_COLOR TERM=xterm HF_HUB_CACHE=%s HF_ENDPOINT=%s HF_HUB_OFFLINE=0 %s timeout 60 "
        .. "python3 tests/support/terminal.py %s get %s <%s/steps"):format(fresh(), endpoint(scenario "slow"), variables,
        process.quote(process.wane), MODEL, steps))
      os.execute("rm -r " .. steps)
      assert.equal(0, done.code, done.out .. done.err)
      return done.out
    end
    assert.is_truthy(terminal "":find("lune-1m MiB", 1, true))
    assert.is_nil(terminal "HF_HUB_DISABLE_PROGRESS_BARS=1":find("lune-1m MiB", 1, true))
  end)

  it("comes without its weights where they are not asked for, and with them later", function()
    local name = scenario "ok"
    local o = settings(name, { weights = false })
    local found = hub.get(MODEL, o)
    assert.same({}, requests(name, NAME))
    assert.is_nil(core.files.kind(found.dir .. "/" .. NAME))
    assert.equal(1024, #wane.tokenizer(found.dir))
    o.offline = true
    assert.equal(found.dir, hub.get(MODEL, o).dir)
    o.weights = true
    assert.is_truthy(failure("network", MODEL, o).message:find("lacks model.safetensors", 1, true))
    o.offline = false
    hub.get(MODEL, o)
    assert.equal(WEIGHTS, core.files.size(found.dir .. "/" .. NAME))
    local env = ("env HF_HUB_CACHE=%s HF_HUB_OFFLINE=1"):format(o.cache)
    local done = process.run_wane({ "-e", "print(#require('wane').tokenizer 'lune/lune-1m')" }, "", env)
    assert.equal("1024\n", done.out, done.err)
  end)

  it("may have two files of one content", function()
    for _, to in ipairs { false, fresh() } do
      local o = settings(scenario "ok", { to = to or nil })
      local found = hub.get("made/small", o)
      assert.equal("the same twice\n", core.files.read(found.dir .. "/LICENSE"))
      assert.equal("the same twice\n", core.files.read(found.dir .. "/NOTICE"))
      assert.equal(to and 6 or 5, #core.files.list(found.dir))
    end
  end)

  for _, kind in ipairs { "bare", "hashes", "longhash", "sizes" } do
    it("may be listed by a mirror without what a file's head has: " .. kind, function()
      local name = scenario(kind)
      local found = hub.get(MODEL, settings(name))
      weights_are_right(found)
      local looked = 0
      for _, entry in ipairs(log(name)) do
        if entry.method == "HEAD" then
          looked = looked + 1
          assert.equal("hub", entry.server)
        end
      end
      assert.equal(kind == "bare" and 6 or 2, looked)
    end)
  end

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
    assert.equal(7, #core.files.list(to))
    local page = wane.check(to, { verify = true })
    assert.same({}, page.problems)
    core.files.write(to .. "/config.json", core.files.read(to .. "/config.json") .. "\n")
    assert.is_truthy(wane.check(to, { verify = true }).problems[1].message:find("was recorded", 1, true))
    local text = core.files.read(to .. "/config.json")
    core.files.write(to .. "/config.json", text:sub(1, -2))
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
    assert.equal(7, #core.files.list(to))
  end)
end)

describe("over TLS", function()
  local has = server.tls ~= "0"
  local function at(name) return ("https://localhost:%s/%s"):format(server.tls, name) end
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
    assert.is_truthy(done.out:find("a redirect to http://127.0.0.1:" .. server.cdn, 1, true), done.out)
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
    assert.equal(10, told("HF_HUB_ETAG_TIMEOUT=-3").connect)
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
    for _, text in ipairs { "./x", "/x/y", "a/b/c", "x", "examples/nothing", "lune/lune-1m/", "../no such", "~/x" } do
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
    assert.is_truthy(done.err:find("^made/small at 0123456789ab: 5 files, [^\r\27]*\n$"), done.err) -- no bar
  end)

  it("prints JSON where it is asked for", function()
    local to = fresh()
    local done = get("ok", "made/small@v1", "--to", to, "--json")
    local found = core.json.decode(done.out)
    assert.same({ "made/small", "v1", COMMIT, to, 5 }, { found.id, found.revision, found.commit, found.dir, #found.files })
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

describe("a listing", function()
  it("has sizes that can be added up", function()
    local function size_of(text)
      local listing = assert(hub.listing(('{"sha": "%s", "siblings": [{"rfilename": "a", "size": %s, "blobId": "%s"}]}')
        :format(COMMIT, text, COMMIT)))
      return listing.files.a.size
    end
    assert.equal(1 << 45, size_of(("%d"):format(1 << 45)))
    for _, text in ipairs { "35184372088833", "4611686018427387904", "9223372036854775807", "-1", "1.0", '"5"' } do
      assert.is_nil(size_of(text), text)
    end
  end)
end)
