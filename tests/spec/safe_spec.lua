-- Checkpoints are not trusted: nothing in a folder is ever run, shards stay in it, and what is written shows nothing else.
local core = require "wane.core"
local process = require "tests.support.process"
local wane = require "wane"

local LUNE <const> = "examples/models/lune-1m"
local quote = process.quote

local dir
lazy_setup(function() dir = process.folder() end)
lazy_teardown(function() os.execute("rm -r " .. dir) end)

local function put(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

local function copy(name)
  local to = dir .. "/" .. name
  assert(os.execute(("cp -r %s %s"):format(LUNE, to)))
  return to
end

local function exists(path) return core.files.kind(path) ~= nil end

-- A checkpoint full of what others would run, each of which would leave a mark.
local function trapped()
  local to = copy "trapped"
  local config = core.files.read(to .. "/config.json")
  put(to .. "/config.json", (config:gsub("{", '{ "auto_map": { "AutoConfig": "modeling.Config" }, ', 1)))
  core.files.mkdir(to .. "/wane/commands")
  for _, name in ipairs { "argparse", "lfs", "cjson", "wane", "init", "wane/init", "wane/core", "wane/commands/check" } do
    put(("%s/%s.lua"):format(to, name), ("io.open(%q, 'w'):close()"):format(dir .. "/mark"))
  end
  for _, name in ipairs { "modeling.py", "tokenizer.py", "tokenization_x.py", "conftest.py", "setup.sh", "tokenizer.json.sh" } do
    put(to .. "/" .. name, ("#!/bin/sh\ntouch %s/mark\n"):format(dir))
    assert(os.execute("chmod +x " .. to .. "/" .. name))
  end
  put(to .. "/argparse.so", "no library")
  put(to .. "/libwane_cuda.so", "no library")
  put(to .. "/pytorch_model.bin", "\x80\x04cposix\nsystem\n(Vtouch " .. dir .. "/mark\ntR.")
  return to
end

describe("nothing of a checkpoint is run", function()
  local folder
  lazy_setup(function() folder = trapped() end)

  for _, words in ipairs {
    { "doctor" }, { "plan", "." }, { "check", "." }, { "--help" },
    { "-e", "local m <close> = require('wane').load '.'; m:logits { 1, 2 }" },
    { "quantize", "--method", "rtn", "--bits", "4", "--src", ".", "--dst", "../quantized" },
  } do
    it("by wane " .. words[1], function()
      local before = ("cd %s && LUA_PATH='./?.lua;;' LUA_CPATH='./?.so;;' timeout -k 5 60"):format(quote(folder))
      local r = process.run_wane(words, nil, before)
      assert.is_false(exists(dir .. "/mark"), r.err)
      assert.equal(0, r.code, r.err)
    end)
  end

  it("and no code goes along", function()
    for _, name in ipairs(core.files.list(dir .. "/quantized")) do
      assert.truthy(name:find "%.json$" or name:find "%.jinja$" or name:find "%.safetensors$" or name == "SHA256SUMS", name)
    end
  end)

  it("as the system sees it", function()
    if not os.execute "strace -V >/dev/null 2>&1" or process.sanitized() then return end -- leak checkers trace, too
    local r = process.run_wane({ "quantize", "--method", "rtn", "--bits", "4", "--src", ".", "--dst", "../traced" }, nil,
      ("cd %s && OMP_WAIT_POLICY=passive timeout -k 5 100 strace -f -e trace=execve,execveat,openat,open,network -o %s")
        :format(quote(folder), quote(dir .. "/trace")))
    assert.equal(0, r.code, r.err)
    local trace = core.files.read(dir .. "/trace")
    local _, runs = trace:gsub("%f[%w]exec%w+%(", "")
    assert.equal(1, runs, "more than wane itself is run")
    assert.is_nil(trace:find "socket%(", "the network is asked")
    for path in trace:gmatch 'open%w*%([%w_]*,? ?"([^"]+)"' do
      assert.is_nil(path:find "%.py$" or path:find "%.sh$" or path:find "%.bin$" or path:find "^%./.*%.so$", path)
    end
  end)

  it("in a source file of wane's, but for the recipes and lines that the user names", function()
    local function each(command, allowed)
      local pipe = assert(io.popen(command))
      for line in pipe:lines() do assert.truthy(allowed(line), line) end
      pipe:close()
    end
    each([[grep -rnE '(^|[^.:_a-z"])(load|loadfile|dofile|loadstring)[ ]*[("]|io\.popen|os\.execute|loadlib' lua/wane]], function(line)
      local file, text = line:match "^lua/wane/([^:]+):%d+:(.*)$"
      return file == "cli.lua" or file == "repl.lua" or text:find "^%s*%-%-" or text:find "function load%("
        or file == "ledger.lua" and text:find "= load%(" -- its own function
    end)
    each([[grep -rnE '\b(exec[lv]p?e?|system|popen|posix_spawnp?|v?fork|dlopen) ?\(' runtime kernels --include=*.[ch] --include=*.cu]],
      function(line)
        return line:find "^runtime/main%.c:.*/proc/self/exe" or line:find "^runtime/tensor/device%.c:.*dlopen"
      end)
  end)
end)

describe("what is written", function()
  it("shows no file that a link in the source leads to", function()
    local source, out = copy "linked", dir .. "/linked_out"
    put(dir .. "/secret", '{"token": "secret"}')
    assert(require("lfs").link("../secret", source .. "/tokenizer_more.json", true))
    assert(require("lfs").link("generation_config.json", source .. "/vocab.json", true)) -- one that stays
    local model <close> = wane.load(source)
    local small <close> = wane.quantize(model, wane.rtn { bits = 4 })
    small:save(out)
    assert.is_false(exists(out .. "/tokenizer_more.json"))
    assert.equal(core.files.read(source .. "/generation_config.json"), core.files.read(out .. "/vocab.json"))
    local warned = table.concat(model.warnings or {}, "\n")
    assert.matches("tokenizer_more.json is a link", warned, 1, true)
  end)

  it("has no file whose name would be a line of its own among the hashes", function()
    local source, out = copy "lines", dir .. "/lines_out"
    put(source .. "/tokenizer\n" .. ("0"):rep(64) .. "  config.json", "{}")
    local model <close> = wane.load(source)
    local small <close> = wane.quantize(model, wane.rtn { bits = 4 })
    small:save(out)
    for _, name in ipairs(core.files.list(out)) do assert.is_nil(name:find "%c") end
    assert.is_true(wane.check(out, { verify = true }).fine)
  end)

  it("is the same bytes each time, where codes leave bits unused, too", function()
    local model <close> = wane.load(LUNE)
    local sums = {}
    for i = 1, 2 do
      local small <close> = wane.quantize(model, wane.rtn { bits = 3, group_size = 32 })
      local out = ("%s/again%d"):format(dir, i)
      small:save(out)
      sums[i] = core.files.sha256_file(out .. "/model.safetensors")
    end
    assert.equal(sums[1], sums[2])
  end)
end)
