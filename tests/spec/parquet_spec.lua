-- Parquet files as sets of records: what Arrow wrote comes back, and what is wrong has a name and a row.
local wane = require "wane"
local process = require "support.process"
local records = require "wane.records"
local tasks = require "wane.tasks"

local core, json = wane.core, wane.json
local ARROW <const> = "tests/reference/parquet/"

local dir = process.folder()
teardown(function() os.execute("rm -r " .. dir) end)

local function rows_of(path, columns)
  local reader <close> = core.data.parquet(path, columns)
  local rows = {}
  for row in function() return (reader:row()) end do rows[#rows + 1] = row end
  assert.equal(reader:rows(), #rows)
  return rows
end

local function copy(name, as)
  core.files.mkdir(as:match "^(.*)/" or ".")
  core.files.write(as, core.files.read(ARROW .. name))
  return as
end

local function message_of(f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.equal(core.error, getmetatable(err), tostring(err))
  return err.message, err.code
end

describe("a Parquet file", function()
  for _, name in ipairs(core.files.list(ARROW)) do
    if name:find "%.parquet$" then
      it(name .. " holds what Arrow put there", function()
        local expected = json.load(ARROW .. name:match "^[^.]+" .. ".json")
        local rows = rows_of(ARROW .. name)
        assert.equal(#expected, #rows)
        for i, row in ipairs(rows) do assert.equal(json.encode(expected[i]), json.encode(row)) end
      end)
    end
  end

  it("gives rows that are as a line of JSONL would be", function()
    local row = rows_of(ARROW .. "choices.parquet")[1]
    local same = json.decode(json.encode(row))
    assert.same(same, row)
    assert.same(getmetatable(same).__order, getmetatable(row).__order)
    assert.equal(getmetatable(same.choices.text), getmetatable(row.choices.text))
  end)

  it("gives the columns that are named", function()
    local reader <close> = core.data.parquet(ARROW .. "choices.parquet")
    assert.same({ "id", "question", "choices", "answerKey" }, reader:columns())
    assert.equal('{"id":"q_000","answerKey":"D"}', (json.encode(rows_of(ARROW .. "choices.parquet", { "answerKey", "id", "x" })[1])
      :gsub('"answerKey":"%u"', '"answerKey":"D"')))
    assert.equal("{}", json.encode(rows_of(ARROW .. "choices.parquet", {})[40]))
  end)

  it("can be closed while it is read", function()
    local reader = core.data.parquet(ARROW .. "choices.parquet")
    reader:row()
    reader:close()
    assert.has_error(function() reader:row() end)
  end)

  for _, case in ipairs(json.load(ARROW .. "refused.json")) do
    it("is refused: " .. case.name, function()
      local path = dir .. "/refused.parquet"
      core.files.write(path, (case.hex:gsub("..", function(two) return string.char(tonumber(two, 16)) end)))
      local message, code = message_of(rows_of, path)
      assert.is_true(code == "format" or code == "unsupported")
      assert.equal(path, message:sub(1, #path))
      assert.is_truthy(message:find(case.says, 1, true), message)
    end)
  end

  it("that is not there is an io error", function()
    local _, code = message_of(core.data.parquet, dir .. "/nothing.parquet")
    assert.equal("io", code)
  end)
end)

describe("records of a Parquet file", function()
  it("are read by its name, and by its first bytes", function()
    local list, numbers = records.read(ARROW .. "category.parquet")
    assert.same({ "a", 10 }, { list[1].kind, list[1].number })
    assert.equal(json.null, list[3].kind)
    assert.same({ 1, 2, 3, 4, 5, 6 }, numbers)
    assert.equal(6, #records.read(copy("category.parquet", dir .. "/data.bin")))
    assert.equal(6, #records.read(copy("category.parquet", dir .. "/data.jsonl")))
  end)

  it("are checked row by row", function()
    local path = ARROW .. "category.parquet"
    assert.equal(path .. ": row 3: kind is missing (its columns are kind, number)",
      message_of(records.read, path, function(r) return type(r.kind) ~= "string" and "kind is missing" or nil end))
    assert.equal(ARROW .. "none.parquet: no records", message_of(records.read, ARROW .. "none.parquet"))
  end)

  it("need no columns but those that are asked for", function()
    local list = records.read(ARROW .. "choices.parquet", nil, { "question" })
    assert.is_nil(list[1].choices)
    assert.is_string(list[1].question)
  end)
end)

describe("calibration from Parquet", function()
  it("takes chats", function()
    local message = message_of(wane.calibration, { file = ARROW .. "nested.parquet" })
    assert.equal(ARROW .. "nested.parquet: row 2: messages must be a list that is not empty (its columns are messages, deep, many, map)",
      message)
  end)

  it("takes texts, and has a hash of its own", function()
    local c = wane.calibration { file = ARROW .. "big.parquet", samples = 2 }
    assert.same({ 3, 2 }, { c.count, c.samples })
    assert.equal(core.files.sha256_file(ARROW .. "big.parquet"), c.hash)
    assert.equal("a long text, ", c.list[1].text:sub(1, 13))
    assert.equal(40, wane.calibration { file = ARROW .. "choices.parquet", text = "question" }.count)
  end)
end)

describe("question sets of the Hub", function()
  it("are read in their own shape", function()
    copy("choices.parquet", dir .. "/hub/arc.test.parquet")
    local list, numbers, left = tasks.read(dir .. "/hub", tasks.arc)
    local first = rows_of(ARROW .. "choices.parquet")[1]
    assert.same({ 40, 40 }, { #list, numbers[40] })
    assert.is_nil(left)
    assert.equal(("%s A. %s B. %s C. %s D. %s"):format(first.question, table.unpack(first.choices.text)), list[1].question)
    assert.same({ first.answerKey, first.id }, { list[1].answer, list[1].title })
  end)

  it("are asked like any other", function()
    local model <close> = wane.load "examples/models/lune-1m"
    local result = wane.evaluate(model, { tasks = { "arc" }, data = dir .. "/hub", trunc_eval = 2, max_tokens = 4 })
    assert.equal(2, result.n)
    assert.equal(2, result.samples[2].line)
  end)
end)
