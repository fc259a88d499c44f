-- Errors: bugs are strings with a position, the world's failures are objects with fields, and both stop a program
-- with the right exit code and a traceback.
local core = require "wane.core"
local process = require "support.process"
local wane = require "wane"

describe("wane.try", function()
  local function fails(code) wane.fail { code = code, message = "no" } end

  it("gives results where all went well", function() assert.same({ 1, nil, 3 }, { wane.try("oom", function() return 1, nil, 3 end) }) end)

  it("gives nil and the object for the code", function()
    local value, err = wane.try("oom", fails, "oom")
    assert.is_nil(value)
    assert.equal("oom", err.code)
    assert.equal("no", tostring(err))
  end)

  it("lets any other error pass as it is", function()
    local _, err = pcall(wane.try, "oom", fails, "io")
    assert.equal("io", err.code)
    _, err = pcall(wane.try, "oom", error, "a bug", 0)
    assert.equal("a bug", err)
    local stranger = { code = "oom" }
    _, err = pcall(wane.try, "oom", error, stranger)
    assert.equal(stranger, err)
  end)
end)

describe("wane.fail", function()
  it("wants a code and a message", function()
    assert.error_matches(function() wane.fail "x" end, "wane%.fail takes")
    assert.error_matches(function() wane.fail { code = "io" } end, "wane%.fail takes")
  end)
end)

describe("errors of the library", function()
  it("say what a function takes where it is given another thing", function()
    local plan <const> = wane.rtn { bits = 4 }
    for text, f in pairs {
      ["wane.quantize takes a model first, of wane.load, not a string"] = function() wane.quantize("a/model", plan) end,
      ["wane.quantize takes a model first, of wane.load, not a table"] = function() wane.quantize({}, plan) end,
      ["wane.evaluate takes a model first, of wane.load, not a nil"] = function() wane.evaluate() end,
      ["wane.bench takes a model first, of wane.load, not a number"] = function() wane.bench(7) end,
      ["wane.compare takes two results of wane.evaluate"] = function() wane.compare("a.json", "b.json") end,
      ["by a string and not a nil"] = function() wane.convert("a/model", nil, { format = "awq" }) end,
    } do
      local ok, err = pcall(f)
      assert.is_false(ok)
      assert.matches("errors_spec.lua:", err, 1, true)
      assert.matches(text, err, 1, true)
    end
  end)

  it("are objects where the world is at fault", function()
    local _, err = pcall(core.files.read, "/nowhere/at all")
    assert.equal(core.error, getmetatable(err))
    assert.equal("io", err.code)
    assert.equal("/nowhere/at all", err.path)
    assert.matches("No such file", tostring(err))
  end)

  it("are strings with the caller's position where the caller is", function()
    local ok, err = pcall(function() core.files.read {} end)
    assert.is_false(ok)
    assert.matches("^tests/spec/errors_spec%.lua:%d+: bad argument #1", err)
  end)

  it("show control characters of file names", function()
    local _, err = pcall(core.files.read, "/nowhere/\27[31m")
    assert.is_nil(tostring(err):find("%c"))
  end)

  it("keep their text in one line", function()
    local _, err = pcall(core.json.decode, "[1,\n2,\n}")
    assert.is_nil(tostring(err):find("\n"))
  end)
end)

describe("core.traceback", function()
  it("keeps an object and adds where it came from, once", function()
    local _, err = xpcall(function() wane.fail { code = "oom", message = "no" } end, core.traceback)
    assert.equal("oom", err.code)
    assert.matches("errors_spec%.lua", err.traceback)
    local first = err.traceback
    local _, again = xpcall(error, core.traceback, err)
    assert.equal(err, again)
    assert.equal(first, again.traceback)
  end)

  it("leaves Ctrl-C and usage without one", function()
    for _, code in ipairs { "interrupted", "usage" } do
      local _, err = xpcall(wane.fail, core.traceback, { code = code, message = "no" })
      assert.is_nil(err.traceback)
    end
  end)

  it("copes with every kind of error value", function()
    for _, value in ipairs { 1, true, {}, print, setmetatable({}, { __tostring = function() return "mine" end }) } do
      local _, text = xpcall(error, core.traceback, value)
      assert.equal("string", type(text))
    end
    local _, text = xpcall(error, core.traceback, nil)
    assert.matches("^nil", text)
  end)
end)

describe("the exit code", function()
  local codes = { usage = 2, format = 3, unsupported = 3, oom = 4, numeric = 5, io = 6, device = 7, gate = 8, partly = 9,
    network = 10, interrupted = 75, unheard_of = 1 }

  for code, exit in pairs(codes) do
    it(("of %s is %d, and the message stands on stderr"):format(code, exit), function()
      local r = process.run_wane { "-e", ('require("wane").fail { code = %q, message = "told" }'):format(code) }
      assert.equal(exit, r.code)
      assert.equal("", r.out)
      assert.matches("^wane: told\n", r.err)
      if exit ~= 75 and exit ~= 2 then assert.matches("stack traceback:\n.*%(command line%):1:", r.err) end
    end)
  end

  it("of anything else is 1", function()
    for _, value in ipairs { '"a bug"', "nil", "{}", "setmetatable({}, { __tostring = function() error(1) end })" } do
      local r = process.run_wane { "-e", "error(" .. value .. ")" }
      assert.equal(1, r.code, r.err)
      assert.matches("^wane: ", r.err)
      assert.equal("", r.out)
    end
  end)

  it("of a file that does not parse is 1, without a traceback", function()
    local r = process.run_wane { "-e", "x =" }
    assert.equal(1, r.code)
    assert.matches("^wane: %(command line%):1: unexpected symbol", r.err)
    assert.is_nil(r.err:find("traceback"))
  end)

  it("is what a script returns, where that is an exit code", function()
    assert.equal(8, process.run_wane({ "-e", "return 8" }).code)
    assert.equal(0, process.run_wane({ "-e", "return 'text'" }).code)
    assert.equal(0, process.run_wane({ "-e", "return 256" }).code)
  end)

  it("is 4 where Lua itself runs out of memory", function()
    if process.sanitized() then return end -- its shadow memory is larger than any limit
    local r = process.run(("ulimit -v 800000; %s -e 'local t = {} while true do t[#t + 1] = (\"x\"):rep(64 << 20) .. #t end'")
      :format(process.quote(process.wane)))
    assert.equal(4, r.code)
    assert.matches("not enough memory", r.err)
  end)

  it("is 4 where products would find no address space, for which OpenBLAS waits without end", function()
    if process.sanitized() then return end
    local r = process.run(("ulimit -v 250000; OMP_NUM_THREADS=1 timeout 20 %s eval examples/models/lune-1m --trunc-eval 1")
      :format(process.quote(process.wane)))
    assert.equal(4, r.code, r.err)
    assert.matches("of address space for 1 thread of OpenBLAS", r.err, 1, true)
    assert.matches("ulimit -v", r.err, 1, true)
  end)

  it("is 6 where a file would outgrow the limit on files", function()
    local r = process.run(("ulimit -f 100; %s -e 'require(\"wane\").core.files.write(\"/tmp/wane-spec-large\", (\"x\"):rep(1 << 20))'")
      :format(process.quote(process.wane)))
    assert.equal(6, r.code, r.err)
    assert.matches("File too large", r.err, 1, true)
  end)
end)
