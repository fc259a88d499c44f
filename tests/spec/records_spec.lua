-- Files of records, JSONL, JSON and text: every record or the place of the first that is wrong.
local wane = require "wane"
local process = require "support.process"
local records = require "wane.records"

local dir = process.folder()
teardown(function() os.execute("rm -r " .. dir) end)

local function file(text)
  local path = dir .. "/records.jsonl"
  wane.core.files.write(path, text)
  return path
end

local function refused(text, check)
  local path = file(text)
  local ok, err = pcall(records.read, path, check)
  assert.is_false(ok)
  assert.equal("format", err.code)
  assert.equal(path, err.path)
  return (err.message:gsub("^.*/records%.jsonl:", ""))
end

describe("a JSONL file", function()
  it("is read line by line, with the numbers of the lines", function()
    local list, lines = records.read(file('{"a":1}\n\n  \n{"a":2}\n'))
    assert.same({ 1, 2 }, { list[1].a, list[2].a })
    assert.same({ 1, 4 }, lines)
  end)

  it("may have a byte order mark, CRLF, and no end to its last line", function()
    local list = records.read(file('\u{feff}{"a":1}\r\n{"a":"\u{e9}\u{2028}"}'))
    assert.same({ 1, "\u{e9}\u{2028}" }, { list[1].a, list[2].a })
  end)

  it("keeps whole numbers whole, and null", function()
    local list = records.read(file('{"n":9007199254740993,"z":null}'))
    assert.equal(9007199254740993, list[1].n)
    assert.equal(wane.json.null, list[1].z)
  end)

  for _, row in ipairs {
    { "a comma too many", '{"a":1}\n{"a":1,}\n', "2:8: not JSON: " },
    { "two values on a line", '{"a":1} {"a":2}\n', "1:9: not JSON: " },
    { "a line that is cut off", '{"a":1}\n{"a":"x', "2:%d+: not JSON: " },
    { "a key twice", '{"a":1,"a":2}\n', "1:%d+: not JSON: duplicate" },
    { "bytes that are no UTF-8", '{"a":"\xff"}\n', "1:%d+: not JSON: " },
    { "a number beyond every float", '{"a":1e999}\n', "1:%d+: " },
    { "a list", '{"a":1}\n[1]\n', "2:1: a record must be a JSON object" },
    { "an empty list", "[]\n", "1:1: a record must be a JSON object" },
    { "null", "null\n", "1:1: a record must be a JSON object" },
    { "nothing but empty lines", "\n\n", "1:1: no records" },
    { "nothing", "", "1:1: no records" },
  } do
    it("is refused with " .. row[1], function() assert.is_truthy(refused(row[2]):find("^" .. row[3])) end)
  end

  it("is refused where a check finds something wrong", function()
    local check = function(r) return r.a ~= 1 and "a must be 1" or nil end
    assert.equal("3:1: a must be 1", refused('{"a":1}\n\n{"a":2}\n', check))
  end)

  it("that is not there is an io error", function()
    local ok, err = pcall(records.read, dir .. "/nothing")
    assert.is_false(ok)
    assert.equal("io", err.code)
  end)

  it("of thousand lines takes no time, and a line of a megabyte either", function()
    local began = os.clock()
    records.read(file(('{"a":"%s"}\n'):format(("x"):rep(1 << 20))))
    records.read(file(('{"question":"q","answer":"A"}\n'):rep(1000)))
    assert.is_true(os.clock() - began < 2)
  end)
end)

local function named(name, text)
  local path = dir .. "/" .. name
  wane.core.files.write(path, text)
  return path
end

local function refusal(name, text, check)
  local path = named(name, text)
  local ok, err = pcall(records.read, path, check)
  assert.is_false(ok)
  assert.equal("format", err.code)
  assert.equal(path, err.path)
  return err.message:sub(#dir + 2)
end

describe("a JSON file", function()
  it("is a list of objects", function()
    local list, numbers = records.read(named("list.json", '\u{feff}[\n{"a": 1},\r\n {"a": 2}]\n'))
    assert.same({ 1, 2 }, { list[1].a, list[2].a })
    assert.same({ 1, 2 }, numbers)
  end)

  it("or an object with one list of objects", function()
    assert.equal(2, records.read(named("in.json", '{"version": "2", "names": ["a"], "data": [{"a": 2}]}'))[1].a)
  end)

  it("or an object on each line", function()
    local list, lines = records.read(named("lines.json", '{"a":1,"b":"}"}\n\n{"a":2}\n'))
    assert.equal(2, list[2].a)
    assert.same({ 1, 3 }, lines)
  end)

  it("is known by its first letter", function()
    assert.equal(1, records.read(named("unnamed", '\n [{"a": 1}]'))[1].a)
    assert.equal(1, records.read(named("unnamed", '\n {"a": 1}'))[1].a)
  end)

  it("is refused where it has no such list, two, or none that holds anything", function()
    assert.matches("^none%.json: a JSON file of records is .*; this has none", refusal("none.json", '{"a": 1}'))
    assert.matches("this has none", refusal("none.json", '"text"'))
    assert.matches("this has 2 lists", refusal("two.json", '{"a": [{}], "b": [{}]}'))
    assert.equal("empty.json: no records", refusal("empty.json", "[]"))
    assert.matches("^broken%.json: not JSON at line 2, column 2: ", refusal("broken.json", '[{"a": 1},\n{a}]'))
  end)

  it("says which record is wrong", function()
    assert.equal("items.json: record 2: a record must be a JSON object", refusal("items.json", '[{"a": 1}, 4]'))
    assert.equal("odd.json: record 2: a must be 1",
      refusal("odd.json", '[{"a": 1},\n{"a": 2}]', function(r) return r.a ~= 1 and "a must be 1" or nil end))
  end)
end)

describe("a text file", function()
  it("has a record of each line that is not empty", function()
    local began, gap = os.clock(), (" "):rep(300000)
    assert.equal("x" .. gap .. "y", records.read(named("wide.txt", gap .. "x" .. gap .. "y"))[1].text)
    assert.is_true(os.clock() - began < 3) -- 0.02 s; where each space is tried as the run's first, minutes
    local list, lines = records.read(named("some.txt", "one line\r\n\n  another  \n"))
    assert.same({ "one line", "another" }, { list[1].text, list[2].text })
    assert.same({ 1, 3 }, lines)
    assert.equal("[a]", records.read(named("some.txt", "[a]"))[1].text)
  end)

  it("of objects is JSONL", function()
    assert.equal(2, records.read(named("lines.txt", '{"a":1}\n{"a":2}\n'))[2].a)
  end)

  it("says which line is wrong", function()
    assert.equal("some.txt:3:1: not a question",
      refusal("some.txt", "why?\n\nbecause\n", function(r) return not r.text:find "?" and "not a question" or nil end))
    assert.equal("blank.txt:1:1: no records", refusal("blank.txt", "\n \n"))
  end)
end)
