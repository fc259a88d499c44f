-- wane.options: what one table of options gives checks, command lines, help and the README.
local core = require "wane.core"
local options = require "wane.options"

local spec = {
  { name = "bits", kind = "integer", default = 4, least = 2, most = 8, doc = "bits of a code" },
  { name = "group_size", kind = "integer", default = 64, doc = "columns that share a scale" },
  { name = "damp", kind = "number", default = 0.01, least = 0, doc = "damping" },
  { name = "symmetric", kind = "boolean", doc = "no zero points" },
  { name = "clip", kind = "boolean", default = true, doc = "search for a clip" },
  { name = "memory", kind = "bytes", doc = "most on the device" },
  { name = "tasks", kind = "list", of = "string", default = { "arc", "boolq" }, doc = "sets" },
  { name = "format", kind = "one of", choices = { "awq", "gptq", 4 }, default = "awq", doc = "packing" },
  { name = "progress", kind = "function", doc = "called now and then" },
  { name = "wait", kind = "number", default = 1, unit = "seconds", doc = "patience" },
}

local function hqq(given)
  local checked = options.check(spec, given, "wane.hqq")
  return checked
end

describe("options.check", function()
  it("gives defaults", function()
    local o = hqq()
    assert.equal(4, o.bits)
    assert.is_nil(o.symmetric)
    assert.is_true(o.clip)
    assert.same({ "arc", "boolq" }, o.tasks)
  end)

  it("gives nobody the list that is the default", function()
    hqq().tasks[1] = "spoilt"
    assert.equal("arc", hqq().tasks[1])
  end)

  it("keeps what was given", function()
    local o = hqq { bits = 3.0, memory = "24GiB", tasks = {}, clip = false, format = 4 }
    assert.equal("integer", math.type(o.bits))
    assert.equal(24 << 30, o.memory)
    assert.same({}, o.tasks)
    assert.is_false(o.clip)
    assert.equal(4, o.format)
  end)

  local wrong = {
    { { bitz = 4 }, "wane%.hqq has no option bitz; did you mean bits%?" },
    { { group = 4 }, "wane%.hqq has no option group; did you mean group_size%?" },
    { { Bits = 4 }, "did you mean bits" },
    { { qqqqqq = 4 }, "wane%.hqq has no option qqqqqq; it has bits, group_size" },
    { { bits = "four" }, 'wane%.hqq: bits must be a whole number, not "four"' },
    { { bits = 4.5 }, "bits must be a whole number, not 4%.5" },
    { { bits = 9 }, "bits must be 2 to 8, not 9" },
    { { damp = -1 }, "damp must be at least 0, not %-1" },
    { { damp = 0 / 0 }, "damp must be a number" },
    { { symmetric = 1 }, "symmetric must be true or false, not 1" },
    { { memory = "lots" }, "memory must be a size, as 24GiB" },
    { { memory = -5 }, "memory must be a size" },
    { { tasks = "arc" }, 'tasks must be a list, not "arc"' },
    { { tasks = { "arc", 5 } }, "tasks must be a list whose item 2 is a string" },
    { { tasks = { arc = 1 } }, "tasks must be a list" },
    { { format = "awk" }, 'format must be one of awq, gptq, 4, not "awk"; did you mean awq%?' },
    { { progress = "yes" }, "progress must be a function" },
    { { 4 }, "wane%.hqq takes options by name" },
    { 4, "wane%.hqq takes a table of options, not 4" },
  }
  for _, row in ipairs(wrong) do
    it("refuses: " .. row[2], function()
      local ok, message = pcall(function() hqq(row[1]) end)
      assert.is_false(ok)
      assert.equal("string", type(message))
      assert.matches("^tests/spec/options_spec%.lua:%d+: ", message) -- a bug has a position: the caller's
      assert.matches(row[2], message)
    end)
  end

  it("insists on what is needed", function()
    assert.error_matches(function() options.check({ { name = "src", kind = "string", required = true, doc = "a folder" } },
      {}, "wane x") end, "wane x needs src: a folder")
  end)

  it("takes entries as they come from C", function()
    local from_c = { { name = "bits", kind = "integer", default = 4, least = 2, most = 8, doc = "" } }
    assert.equal(3, options.check(from_c, { bits = 3 }, "x").bits)
  end)
end)

describe("options.parse", function()
  local function parse(name, text)
    for _, entry in ipairs(spec) do
      if entry.name == name then return options.parse(entry, text) end
    end
  end

  it("reads a text as the kind wants it", function()
    assert.equal(3, parse("bits", "3"))
    assert.equal(0.5, parse("damp", "0.5"))
    assert.equal(24 << 30, parse("memory", "24GiB"))
    assert.same({ "a", "b" }, parse("tasks", "a, b"))
    assert.equal(4, parse("format", "4"))
    assert.is_false(parse("clip", "no"))
  end)

  it("says what is wrong", function()
    local v, wrong = parse("bits", "x")
    assert.is_nil(v)
    assert.equal('bits must be a whole number, not "x"', wrong)
    assert.matches("2 to 8", select(2, parse("bits", "1")))
    assert.matches("as a text", select(2, parse("progress", "x")))
  end)
end)

describe("options.arguments", function()
  local function read(...) return options.arguments("x.lua MODEL OUT", spec, { ... }, 2) end

  local function refused(code, message, ...)
    local ok, err = pcall(read, ...)
    assert.is_false(ok)
    assert.equal(core.error, getmetatable(err))
    assert.equal(code, err.code)
    assert.matches(message, err.message)
  end

  it("reads flags and words in any order", function()
    local o = read("in", "--bits", "3", "--group-size=32", "out", "--symmetric", "--no-clip")
    assert.same({ "in", "out" }, { o[1], o[2] })
    assert.equal(3, o.bits)
    assert.equal(32, o.group_size)
    assert.is_true(o.symmetric)
    assert.is_false(o.clip)
    assert.equal(0.01, o.damp)
  end)

  it("takes what follows -- as words", function() assert.equal("--bits", read("in", "--", "--bits")[2]) end)
  it("takes a negative number for a value", function() assert.equal(-1, read("a", "b", "--group-size", "-1").group_size) end)

  it("refuses what it does not know, with exit code 2", function()
    refused("usage", "x%.lua has no flag %-%-bitz; did you mean %-%-bits%?", "a", "b", "--bitz", "3")
    refused("usage", "needs a value", "a", "b", "--bits")
    refused("usage", "bits must be 2 to 8", "a", "b", "--bits", "9")
    refused("usage", "words given: 1, needed: 2", "a")
  end)

  it("tells what it takes", function() refused("help", "Usage: x%.lua MODEL OUT.*%-%-group%-size N", "--help") end)
end)

describe("the same table", function()
  it("makes help", function()
    local text = options.help(spec)
    assert.matches("%-%-bits N +bits of a code %(2 to 8; default 4%)", text)
    assert.matches("%-%-no%-clip +search for a clip %(default on%)", text)
    assert.matches("%-%-format awq|gptq|4", text)
    assert.matches("%-%-wait X +patience %(in seconds; default 1%)", text)
    assert.is_nil(text:find("progress"))
  end)

  it("makes a table of the README", function()
    local text = options.markdown(spec)
    assert.matches("| `bits` | integer | 4 | bits of a code |", text, 1, true)
    assert.matches("| `tasks` | list | arc,boolq | sets |", text, 1, true)
    assert.matches("| `format` | awq, gptq, 4 | awq | packing |", text, 1, true)
  end)

  it("makes a description", function() assert.matches("progress  function +called now and then", options.describe(spec)) end)
end)

describe("wane", function()
  local wane = require "wane"

  it("refuses a name it does not have and says which was meant", function()
    local _, message = pcall(function() return wane.jsom end)
    assert.matches("options_spec%.lua:%d+: wane has no jsom; did you mean json%?", message)
    assert.error_matches(function() return wane["../x"] end, "wane has no")
    assert.error_matches(function() return wane.docs end, "wane has no docs")
  end)

  it("loads a module when it is first named", function() assert.equal(require "wane.json", wane.json) end)

  it("turns bytes into text and back", function()
    assert.equal("24 GiB", wane.bytes(24 << 30))
    assert.equal(24 << 30, wane.bytes "24GiB")
  end)

  it("opens a device within a budget and tells of it", function()
    local before = wane.device()
    local info = wane.device { name = "cpu", memory = "64MiB", host_memory = 32 << 20 }
    assert.equal("cpu", info.name)
    assert.equal(64 << 20, info.memory)
    wane.device { name = before.name }
    assert.is_nil(wane.device().memory)
  end)

  it("refuses a device and an option that are not there", function()
    assert.error_matches(function() wane.device { memroy = 1 } end, "wane%.device has no option memroy; did you mean memory%?")
    assert.error_matches(function() wane.device { name = "gpu" } end, 'no device is called "gpu"')
    local _, err = pcall(wane.device, { memory = 1000 })
    assert.equal("oom", err.code)
  end)
end)
