-- Safetensors files from Lua: round trips, and the error objects of bad files.
local core = require "wane.core"
local lfs = require "lfs"

local tensor = core.tensor

local folder, path

local function write(bytes)
  local f = assert(io.open(path, "wb"))
  f:write(bytes)
  f:close()
end

-- A file of this header and that many bytes of data.
local function make(header, data) write(string.pack("<s8", header) .. ("\0"):rep(data or 0)) end

local function raises(code, text, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.equal(core.error, getmetatable(err), tostring(err))
  assert.equal(code, err.code)
  assert.is_truthy(err.message:find(text, 1, true), err.message)
  assert.is_nil(err.message:find("\n", 1, true))
  return err
end

local function count()
  local n = 0
  for name in lfs.dir(folder) do n = n + (name:match("^%.%.?$") and 0 or 1) end
  return n
end

before_each(function()
  folder = os.tmpname()
  os.remove(folder)
  assert(lfs.mkdir(folder))
  path = folder .. "/x.safetensors"
end)

after_each(function()
  for name in lfs.dir(folder) do os.remove(folder .. "/" .. name) end
  lfs.rmdir(folder)
end)

describe("saving and loading", function()
  it("gives every dtype and shape back", function()
    local set = {}
    for i, dtype in ipairs { "f32", "f16", "bf16", "i8", "u8", "i32", "i64" } do
      set["t." .. dtype] = tensor.random({ 3, i }, { seed = i, low = 0, high = 100 }):to(dtype)
    end
    set.empty, set.scalar, set["é \"\\"] = tensor.zeros { 2, 0 }, tensor.from(0.1), tensor.arange(5)
    set.column = tensor.arange(12):reshape({ 3, 4 }):slice(2, 2, 3)
    tensor.save(path, set, { metadata = { made_by = "a spec" } })
    assert.equal(1, count())
    local back = tensor.load(path)
    for name, t in pairs(set) do
      assert.equal(t, back[name], name)
      assert.equal(t, tensor.load(path, name))
    end
    local entries, metadata = tensor.entries(path)
    assert.equal(11, #entries)
    assert.same({ format = "pt", made_by = "a spec" }, metadata)
    assert.same({ name = "column", dtype = "f32", shape = { 3, 2 }, bytes = 24 }, entries[1])
    assert.equal("host", tensor.load(path, "scalar", { device = "host" }).device)
  end)

  it("replaces a file in one step, and leaves it when it cannot", function()
    tensor.save(path, { a = tensor.from { 1 } })
    tensor.save(path, { a = tensor.from { 2 } })
    assert.equal(2, tensor.load(path, "a")[1])
    assert.is_false(pcall(tensor.save, path, { a = 3 }))
    assert.is_false(pcall(tensor.save, path, { "unnamed" }))
    assert.is_false(pcall(tensor.save, path, { [""] = tensor.from { 1 } }))
    assert.is_false(pcall(tensor.save, path, { a = tensor.from { 3 } }, { metadata = { k = 1 } }))
    raises("io", "No such file", tensor.save, folder .. "/no/x", { a = tensor.from { 3 } })
    assert.equal(2, tensor.load(path, "a")[1])
    assert.equal(1, count())
  end)

  it("lists what it cannot load", function()
    make(
      [[{"x":{"dtype":"I16","shape":[1],"data_offsets":[4,6]},"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}]],
      6
    )
    assert.equal(0, tensor.load(path, "w"):number())
    assert.equal("I16", tensor.entries(path)[2].dtype)
    local err = raises("unsupported", "dtype I16; wane reads F32, F16, BF16", tensor.load, path, "x")
    assert.equal("x", err.tensor)
    assert.equal(path, err.path)
    raises("format", "has no tensor \"y\"; it has 2", tensor.load, path, "y")
  end)
end)

describe("a bad file", function()
  local function entry(begin, finish, shape)
    return ('{"dtype":"F32","shape":%s,"data_offsets":[%s,%s]}'):format(shape or "[2]", begin, finish)
  end
  local rows = {
    { "", "the file is empty" },
    { "abc", "not a safetensors file (3 bytes)" },
    { "version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`" },
    { "<!DOCTYPE html><title>404</title>", "a web page" },
    { "PK\3\4 and so on", "zip archive" },
    { "\x80\2ctorch\nload\n", "a pickle" },
    { string.pack("<I8", 1 << 40) .. "{}", "claims a header of 1099511627776 bytes" },
    { string.pack("<I8", 100) .. "{}", "cut off" },
    { string.pack("<s8", "[1]"), "does not start with {" },
    { string.pack("<s8", '{"a":'), "not JSON" },
    { string.pack("<s8", '{"a\xff":1}'), "not UTF-8 at byte 11" },
    { string.pack("<s8", '{"a":' .. entry(0, 8) .. "}") .. "1234567", "cut off: 7 of 8 bytes" },
    { string.pack("<s8", '{"a":' .. entry(0, 8) .. "}") .. "123456789", "1 bytes follow" },
    { string.pack("<s8", '{"a":' .. entry(8, 0) .. "}") .. "12345678", "reversed" },
    { string.pack("<s8", '{"a":' .. entry("0.5", 8) .. "}") .. "12345678", "two whole numbers" },
    { string.pack("<s8", '{"a":' .. entry(0, 8, "[3]") .. "}") .. "12345678", "need 12 bytes" },
    { string.pack("<s8", '{"a":' .. entry(0, 8, "[1,1,1,1,1,1,1,1,2]") .. "}") .. "12345678", "more than 8" },
    { string.pack("<s8", '{"a":' .. entry(0, 8) .. ',"a":' .. entry(0, 8) .. "}") .. "12345678", "duplicate" },
    { string.pack("<s8", '{"__metadata__":{"a":1}}'), "is not a string" },
  }
  for _, row in ipairs(rows) do
    it(("says: %s"):format(row[2]), function()
      write(row[1])
      for _, f in ipairs { tensor.entries, tensor.load } do
        local err = raises("format", row[2], f, path)
        assert.equal(path, err.path)
      end
    end)
  end

  it("names the tensor and the place", function()
    make('{"first":' .. entry(0, 8) .. ',"second":' .. entry(4, 12) .. "}", 12)
    local err = raises("format", 'tensor "second": overlaps the tensor before it by 4 bytes', tensor.load, path)
    assert.equal("second", err.tensor)
    assert.equal(8 + #('{"first":' .. entry(0, 8) .. ',"second":' .. entry(4, 12) .. "}") + 4, err.offset)
  end)

  it("that is no file is an io error", function()
    raises("io", "No such file", tensor.load, folder .. "/none")
    raises("io", "Is a directory", tensor.load, folder)
  end)

  it("cannot put control characters on the screen", function()
    make('{"a\\u001b[31m":' .. entry(0, 8) .. "}", 8)
    local err = raises("format", "a\\x1b[31m", tensor.load, path)
    assert.is_nil(err.message:find("\27", 1, true))
  end)
end)
