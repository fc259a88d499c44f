-- wane.json: what comes back is what went in, and nothing that is not JSON gets through.
local json = require "wane.json"
local core = require "wane.core"

local function round(text, options) return json.encode(json.decode(text), options) end

describe("json.decode", function()
  it("keeps what is whole apart from what is not", function()
    local v = json.decode '[1, 1.0, -0.0, 9223372036854775807, 1e3]'
    assert.equal("integer", math.type(v[1]))
    assert.equal("float", math.type(v[2]))
    assert.equal("-0.0", tostring(v[3]))
    assert.equal(math.maxinteger, v[4])
    assert.equal("float", math.type(v[5]))
  end)

  it("gives null as a value that is equal to itself", function()
    local v = json.decode '[null, {"a": null}]'
    assert.equal(json.null, v[1])
    assert.equal(json.null, v[2].a)
    assert.equal(2, #v)
  end)

  it("marks objects and arrays", function()
    local v = json.decode '{"b": [], "a": {}}'
    assert.equal("object", getmetatable(v).__jsontype)
    assert.same({ "b", "a" }, getmetatable(v).__order)
    assert.equal("array", getmetatable(v.b).__jsontype)
    assert.equal("object", getmetatable(v.a).__jsontype)
  end)

  local wrong = {
    ["nothing"] = "", ["half an object"] = '{"a":', ["text after it"] = "{} x", ["a key twice"] = '{"a":1,"a":2}',
    ["a leading zero"] = "[01]", ["bytes that are not UTF-8"] = '"\xff"', ["a number past the largest"] = "[1e999]",
    ["NaN"] = "[NaN]", ["a control character"] = '"\1"', ["half a surrogate pair"] = [["\ud800"]],
    ["a byte order mark"] = "\xef\xbb\xbf{}", ["an integer past 64 bits"] = "[99999999999999999999]",
    ["a comma too many"] = "[1,]", ["a comment"] = "[1] // one", ["nesting past 64"] = ("["):rep(65) .. ("]"):rep(65),
  }
  for what, text in pairs(wrong) do
    it("refuses " .. what, function()
      local ok, err = pcall(json.decode, text)
      assert.is_false(ok)
      assert.equal(core.error, getmetatable(err))
      assert.equal("format", err.code)
      assert.equal("integer", math.type(err.offset))
      assert.is_nil(err.path)
    end)
  end

  it("names the text it was given, and shows no control characters of it", function()
    local _, err = pcall(json.decode, "[\27[31m]", "config.json")
    assert.matches("^config%.json: not JSON at line 1", err.message)
    assert.equal("config.json", err.path)
    assert.is_nil(err.message:find("[%c]"))
  end)

  it("takes 64 levels", function() assert.has_no.errors(function() json.decode(("["):rep(64) .. ("]"):rep(64)) end) end)

  it("wants a text", function()
    assert.error_matches(function() json.decode {} end, "string expected")
  end)
end)

describe("json.encode", function()
  it("gives a decoded text back to the byte", function()
    for _, text in ipairs {
      '{"b":1,"a":[1,2.5,null,{}],"z":[],"e":1e-06,"t":true,"f":false}',
      '[0.1,1e-05,0.0001,123456789.0,1e+16,1234567890123456.0,5e-324,1.7976931348623157e+308,-0.0,0.3333333333333333]',
      '"\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u001f/é😀"', '""', "12", "null", "[[[[]]]]", '{"":{"":1}}',
    } do
      assert.equal(text, round(text))
    end
  end)

  it("lays out with an indent as Python does", function()
    local text = '{\n  "a": [\n    1,\n    {\n      "b": null\n    }\n  ],\n  "c": {},\n  "d": []\n}'
    assert.equal(text, round(text, { indent = 2 }))
  end)

  it("writes floats so that they are floats again, and the same ones", function()
    math.randomseed(7)
    for _ = 1, 5000 do
      local x = string.unpack("<d", string.pack("<I8", math.random(0)))
      if x == x and x - x == 0 then
        local back = json.decode("[" .. json.encode(x) .. "]")[1]
        assert.equal("float", math.type(back))
        assert.equal(x, back)
      end
    end
    for _, x in ipairs { 1.0, 1e15, 1e17, 2^53, 1e22, 100.0 } do assert.equal("float", math.type(json.decode(json.encode(x)))) end
  end)

  it("puts keys that came later behind, sorted, and leaves out those that went", function()
    local v = json.decode '{"z":1,"y":2,"x":3}'
    v.y, v.c, v.b = nil, 4, 5
    assert.equal('{"z":1,"x":3,"b":5,"c":4}', json.encode(v))
  end)

  it("sorts the keys of a plain table", function() assert.equal('{"a":1,"b":2,"c":3}', json.encode { c = 3, a = 1, b = 2 }) end)

  it("takes a table for an array or an object by its keys, or by its mark", function()
    assert.equal("[1,2]", json.encode { 1, 2 })
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array {}))
    assert.equal("[]", json.encode(json.array()))
    assert.equal("{}", json.encode(json.object {}))
    assert.equal('{"b":1,"a":2}', json.encode(json.object({ a = 2, b = 1 }, { "b", "a" })))
    assert.equal('{"b":1,"a":2}', json.encode(json.object({ a = 2, b = 1 }, { "b", "b", "gone", "a" })))
  end)

  local cycle = {}
  cycle.a = { { b = cycle } }
  local deep = {}
  for _ = 1, 64 do deep = { deep } end
  local wrong = {
    { "NaN", { x = { 0 / 0 } }, "%.x%[1%] is NaN" },
    { "infinity", { -1 / 0 }, "%[1%] is infinite" },
    { "a cycle", cycle, "%.a%[1%]%.b contains itself" },
    { "depth over 64", deep, "nested deeper" },
    { "mixed keys", { 1, a = 2 }, "names and numbers" },
    { "holes", { 1, nil, 3 }, "holes" },
    { "a key that is a float", { [1.5] = 1 }, "key" },
    { "an array with names", json.array { a = 1 }, "array with a key" },
    { "an object with numbers", json.object { 1 }, "object with a key" },
    { "a function", { f = print }, "%.f is a function" },
    { "text that is not UTF-8", { s = "\xff" }, "%.s is not UTF%-8" },
    { "a key that is not UTF-8", { ["\xff"] = 1 }, "not UTF%-8" },
  }
  for _, row in ipairs(wrong) do
    it("refuses " .. row[1] .. " and says where it is", function()
      assert.error_matches(function() json.encode(row[2]) end, "wane%.json%.encode: .*" .. row[3])
    end)
  end

  it("says nothing of where for a value alone", function()
    assert.error_matches(function() json.encode(0 / 0) end, "the value is NaN")
  end)

  it("refuses an option it does not have", function()
    assert.error_matches(function() json.encode({}, { indnt = 2 }) end, "no option indnt; did you mean indent%?")
    assert.error_matches(function() json.encode({}, { indent = -1 }) end, "indent")
  end)

  it("writes the same whatever the locale says of commas", function()
    local before = os.setlocale(nil, "numeric")
    local comma = os.setlocale("de_DE.UTF-8", "numeric")
    local text = json.encode { 0.5, 1e-7 }
    os.setlocale(before, "numeric")
    if comma then assert.equal("0.5", text:match("0.5")) end
    assert.equal("[0.5,1e-07]", text)
  end)

  it("shares a table that occurs twice, as long as it does not contain itself", function()
    local part = { 1 }
    assert.equal('{"a":[1],"b":[1]}', json.encode { a = part, b = part })
  end)
end)

describe("json files", function()
  local path
  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  it("come back as they were saved", function()
    json.save(path, { a = { 1, 2.5, json.null } })
    local v = json.load(path)
    assert.equal('{"a":[1,2.5,null]}', json.encode(v))
    assert.matches("\n$", core.files.read(path))
  end)

  it("are refused where they are larger than asked for", function()
    core.files.write(path, "[" .. (" "):rep(100) .. "]")
    local _, err = pcall(json.load, path, 50)
    assert.equal("format", err.code)
    assert.equal(path, err.path)
  end)

  it("that are not there are an io error", function()
    local _, err = pcall(json.load, path .. ".absent")
    assert.equal("io", err.code)
  end)

  it("with a value a line are read line by line, and a bad line is named", function()
    core.files.write(path, '{"a":1}\n\n{"a":2}\r\n{"a":\n')
    local seen = {}
    local ok, err = pcall(function()
      for row, number in json.lines(path) do seen[#seen + 1] = { row.a, number } end
    end)
    assert.same({ { 1, 1 }, { 2, 3 } }, seen)
    assert.is_false(ok)
    assert.matches(":4: not JSON", err.message)
  end)
end)
