-- The command line: what goes to stdout and what to stderr, exit codes, flags made from option tables.
local core = require "wane.core"
local cli = require "wane.cli"
local process = require "support.process"

local run = process.run_wane

local function script(text)
  local path = os.tmpname() .. ".lua"
  core.files.write(path, text)
  return path
end

describe("wane", function()
  it("tells its version", function()
    local r = run { "--version" }
    assert.same({ out = "wane " .. core.version .. "\n", err = "", code = 0 }, r)
  end)

  it("tells how it is used, every command with a summary", function()
    local r = run { "--help" }
    assert.equal(0, r.code)
    assert.equal("", r.err)
    for _, name in ipairs(cli.commands()) do assert.matches("\n  " .. name .. " +%a", r.out) end
    assert.is_nil(r.out:find("cannot be loaded"))
  end)

  it("needs neither a home, a locale, a terminal nor lua-argparse for that", function()
    for _, flag in ipairs { "--help", "--version" } do
      local r = run({ flag }, "", "env -i LUA_PATH_5_4=/nowhere/?.lua")
      assert.equal(0, r.code, r.err)
    end
  end)

  it("refuses what it does not know, names what was meant, and says nothing on stdout", function()
    local r = run { "quantise" }
    assert.equal(2, r.code)
    assert.equal("", r.out)
    assert.equal("wane: there is no command or file called quantise; did you mean quantize?\n", r.err)
    r = run { "--hlep" }
    assert.equal(2, r.code)
    assert.matches("did you mean %-%-help%?", r.err)
    assert.equal(2, run({ "-e" }).code)
    assert.equal(2, run({ "run" }).code)
  end)
end)

describe("a recipe", function()
  it("gets its arguments", function()
    local path = script 'print(arg[0], arg[1], arg[2], #arg, ...)'
    local want = ("%s\t--bits\t4\t2\t--bits\t4\n"):format(path)
    assert.equal(want, run({ path, "--bits", "4" }).out)
    assert.equal(want, run({ "run", path, "--bits", "4" }).out)
    os.remove(path)
  end)

  it("is read from stdin where it is called -", function()
    assert.equal("7\tx\n", run({ "-", "x" }, "local y = 7\nprint(y, ...)").out)
  end)

  it("that is not there is a failure of the file system", function()
    local r = run { "absent.lua" }
    assert.equal(6, r.code)
    assert.equal("wane: cannot read absent.lua: there is no such file\n", r.err)
    assert.equal(6, run({ "run", "/tmp" }).code)
  end)

  it("shows where it failed, without the frames below it", function()
    local path = script 'local function f() error("deep") end\nf()\n'
    local r = run { path }
    assert.equal(1, r.code)
    assert.matches("^wane: " .. path:gsub("%p", "%%%0") .. ":1: deep\nstack traceback:\n", r.err)
    assert.matches(":2: in main chunk\n$", r.err)
    os.remove(path)
  end)

  it("may not be bytecode", function()
    local path = script(string.dump(function() end))
    local r = run { path }
    assert.equal(1, r.code)
    assert.matches("attempt to load a binary chunk", r.err)
    os.remove(path)
  end)

  it("asked for help prints it and succeeds", function()
    local path = script [[
      require("wane").options.arguments("x.lua", { { name = "bits", kind = "integer", doc = "how many" } }, arg)]]
    local r = run { path, "--help" }
    assert.same({ 0, "" }, { r.code, r.err })
    assert.matches("^Usage: x%.lua %[options%].*%-%-bits N  how many", r.out)
    assert.equal(2, run({ path, "--bist", "3" }).code)
    os.remove(path)
  end)
end)

describe("a command", function()
  local called
  local command = {
    summary = "try things",
    arguments = { { name = "model", doc = "which" }, { name = "rest", doc = "more", many = true } },
    options = {
      { name = "group_size", kind = "integer", default = 64, least = 1, doc = "columns" },
      { name = "memory", kind = "bytes", doc = "most" },
      { name = "tasks", kind = "list", default = { "arc" }, doc = "sets" },
      { name = "clip", kind = "boolean", default = true, doc = "search" },
      { name = "force", kind = "boolean", doc = "replace" },
      { name = "format", kind = "one of", choices = { "awq", "gptq" }, doc = "packing" },
      { name = "src", kind = "string", required = true, doc = "a folder" },
      { name = "say", kind = "function", doc = "no flag" },
    },
    json = true,
    run = function(o)
      called = o
      return 9
    end,
  }
  local told, write

  before_each(function()
    called, told = nil, {}
    package.loaded["wane.commands.attempt"] = command
    write = io.stderr
    io.stderr = { write = function(_, ...) told[#told + 1] = table.concat { ... } end } -- luacheck: ignore
    package.preload["wane.commands.attempt"] = function() return command end
    package.loaded["wane.modules"].exists_before = package.loaded["wane.modules"].exists
    package.loaded["wane.modules"].exists = function(name)
      return name == "wane.commands.attempt" or package.loaded["wane.modules"].exists_before(name)
    end
  end)

  after_each(function()
    io.stderr = write -- luacheck: ignore
    package.loaded["wane.commands.attempt"], package.preload["wane.commands.attempt"] = nil, nil
    local modules = package.loaded["wane.modules"]
    modules.exists, modules.exists_before = modules.exists_before, nil
  end)

  it("gets words and flags in one table, with defaults", function()
    local code = cli.main("attempt", "m", "--group-size", "32", "a", "b", "--src=x", "--memory", "1KiB", "--json")
    assert.equal("", table.concat(told))
    assert.equal(9, code)
    assert.equal(32, called.group_size)
    assert.equal(1024, called.memory)
    assert.same({ "arc" }, called.tasks)
    assert.is_true(called.clip)
    assert.is_nil(called.force)
    assert.equal("m", called.model)
    assert.same({ "a", "b" }, called.rest)
    assert.is_true(called.json)
  end)

  it("switches on and off", function()
    cli.main("attempt", "m", "a", "--src", "x", "--force", "--no-clip")
    assert.is_true(called.force)
    assert.is_false(called.clip)
  end)

  it("refuses with exit code 2 and says where to read more", function()
    for _, row in ipairs {
      { "unknown option '%-%-group%-sise'.*Did you mean '%-%-group%-size'%?", "m", "a", "--src", "x", "--group-sise", "3" },
      { "group_size must be at least 1, not 0", "m", "a", "--src", "x", "--group-size", "0" },
      { 'memory must be a size, as 24GiB, 512MiB or 4096, not "lots"', "m", "a", "--src", "x", "--memory", "lots" },
      { "format must be one of awq, gptq, not \"awk\"", "m", "a", "--src", "x", "--format", "awk" },
      { "attempt needs %-%-src: a folder", "m", "a" },
      { "argument", "--src", "x" },
    } do
      told = {}
      assert.equal(2, cli.main("attempt", table.unpack(row, 2)))
      local text = table.concat(told)
      assert.matches("^wane: attempt", text)
      assert.matches(row[1], text)
      assert.matches("see wane attempt %-%-help\n$", text)
      assert.is_nil(called)
    end
  end)

  it("shows every flag in its help", function()
    local text = cli.help "attempt"
    for _, part in ipairs { "%-%-group%-size N", "%-%-memory SIZE", "%-%-tasks A,B", "%-%-no%-clip", "%-%-force",
      "%-%-format awq|gptq", "%-%-json", "try things", "at least 1; default 64" } do
      assert.matches(part, text)
    end
    assert.is_nil(text:find("say", 1, true))
  end)

  it("that fails for the world's reasons tells its message alone", function()
    command.run = function() require("wane").fail { code = "oom", message = "no room" } end
    assert.equal(4, cli.main("attempt", "m", "a", "--src", "x"))
    assert.equal("wane: no room\n", table.concat(told))
  end)
end)

describe("every command", function()
  for _, name in ipairs(cli.commands()) do
    it(name .. " has a summary, help and flags that can be parsed", function()
      local command = cli.command(name)
      assert.equal("string", type(command.summary))
      assert.equal("function", type(command.run))
      local r = run { name, "--help" }
      assert.equal(0, r.code, r.err)
      assert.equal("", r.err)
      assert.matches("^Usage: wane " .. name, r.out)
      for _, entry in ipairs(command.options or {}) do assert.is_truthy(entry.doc, entry.name .. " has no doc") end
      if not command.raw then assert.equal(2, run({ name, "--no-such-flag" }).code) end
    end)
  end

  it("needs lua-argparse, and says how to get it", function()
    local r = run({ "doctor" }, "", "env LUA_PATH_5_4=/nowhere/?.lua")
    assert.equal(2, r.code)
    assert.matches("apt%-get install lua%-argparse", r.err)
  end)
end)

describe("wane doctor", function()
  it("tells what the machine has, as text and as JSON", function()
    local r = run { "doctor" }
    assert.equal(0, r.code, r.err)
    assert.matches("device +cpu", r.out)
    local page = core.json.decode(run({ "doctor", "--json" }).out)
    assert.equal(core.version, page.version)
    assert.equal("cpu", page.device.name)
  end)

  it("gives 7 where the device that must work does not", function()
    local r = run { "doctor", "--device", "cuda:9" }
    assert.equal(7, r.code)
    assert.matches("cuda:9: cannot open", r.out)
  end)

  it("never shows a token", function()
    local r = run({ "doctor" }, "", "env HF_TOKEN=hf_secret")
    assert.is_nil((r.out .. r.err):find("hf_secret"))
    assert.matches("token present", r.out)
  end)
end)

describe("wane help", function()
  it("tells about commands and names", function()
    assert.matches("%-%-method", run({ "help", "quantize" }).out)
    assert.matches("decode%(text, name%)", run({ "help", "json.decode" }).out)
    local r = run { "help", "json.decod" }
    assert.equal(2, r.code)
    assert.matches("did you mean", r.err)
  end)
end)

describe("wane completion", function()
  it("makes scripts that shells can read", function()
    for _, shell in ipairs { "bash", "zsh", "fish" } do
      local r = run { "completion", shell }
      assert.equal(0, r.code, r.err)
      assert.matches("quantize", r.out)
    end
    assert.equal(0, process.run(process.quote(process.wane) .. " completion bash | bash -n").code)
    assert.equal(2, run({ "completion", "csh" }).code)
  end)
end)

describe("the streams", function()
  it("may be closed at the start: a file that is opened is not taken for one of them", function()
    local path = os.tmpname()
    local code = ('local f = io.open(%q, "w") print("to stdout") io.stderr:write("to stderr") f:write("data") f:close()')
      :format(path)
    local r = process.run(("%s -e %s <&- >&- 2>&-"):format(process.quote(process.wane), process.quote(code)))
    assert.equal(0, r.code)
    assert.equal("data", core.files.read(path))
    os.remove(path)
  end)

  it("end quietly where the reader has enough", function()
    local r = process.run(("%s -e 'while true do print(1) end' | head -n 1"):format(
      process.quote(process.wane)))
    assert.equal("1\n", r.out)
    assert.equal("", r.err)
  end)

  it("that cannot be written are told of", function()
    if core.files.kind "/dev/full" then
      local r = process.run(process.quote(process.wane) .. " -e 'print(1)' >/dev/full")
      assert.equal(6, r.code)
      assert.matches("cannot write to stdout", r.err)
    end
  end)
end)
