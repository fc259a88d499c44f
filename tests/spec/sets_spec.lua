-- Sets of several files: folders as the Hub keeps data sets, patterns, shards that are missing.
local wane = require "wane"
local process = require "support.process"
local core, sets, tasks = wane.core, require "wane.sets", require "wane.tasks"

local root = process.folder()
teardown(function() os.execute("rm -r " .. root) end)

local ARROW <const> = "tests/reference/parquet/"

-- a folder with empty files of these names
local function folder(name, ...)
  local dir = root .. "/" .. name
  for _, file in ipairs { ... } do
    core.files.mkdir((dir .. "/" .. file):match "^(.*)/")
    core.files.write(dir .. "/" .. file, "")
  end
  return dir
end

local function message_of(f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  return err.message, err.code
end

-- the names below dir of the files that it stands for
local function names(dir, prefer)
  local list = sets.files(dir, prefer)
  for i, path in ipairs(list) do list[i] = path:sub(#dir + 2) end
  return list
end

describe("the files of a set", function()
  it("are the file that is named", function()
    assert.same({ ARROW .. "choices.parquet" }, sets.files(ARROW .. "choices.parquet"))
    local message, code = message_of(sets.files, ARROW .. "choises.parquet")
    assert.equal("io", code)
    assert.is_truthy(message:find("did you mean tests/reference/parquet/choices.parquet?", 1, true), message)
  end)

  it("are the shards of a folder, of the split that is preferred", function()
    local dir = folder("hub", "README.md", ".gitattributes", "data/train-00000-of-00002.parquet",
      "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet")
    assert.same({ "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet" }, names(dir, { "train" }))
    assert.same({ "data/test-00000-of-00001.parquet" }, names(dir, { "test", "validation" }))
    assert.same({ dir .. "/data/test-00000-of-00001.parquet" }, sets.files(dir .. "//", { "test" }))
    local message = message_of(sets.files, dir)
    assert.is_truthy(message:find("several sets (test, train)", 1, true), message)
    local fix = message:match "'(.-)'"
    assert.same({ dir .. "/data/test-00000-of-00001.parquet" }, sets.files(fix))
  end)

  it("may lie in its only folder, be numbered, and have a hash in their names", function()
    assert.same({ "plain/0000.parquet", "plain/0001.parquet" }, names(folder("one", "plain/0000.parquet",
      "plain/0001.parquet")))
    assert.same({ "train-00000-of-00001-0a1b2c.parquet" }, names(folder("old", "train-00000-of-00001-0a1b2c.parquet")))
    assert.same({ "part-1.jsonl", "part-2.jsonl" }, names(folder("parts", "part-1.jsonl", "part-2.jsonl", "notes.txt")))
  end)

  it("must all be there", function()
    local dir = folder("cut", "train-00000-of-00003.parquet", "train-00002-of-00003.parquet")
    local message, code = message_of(sets.files, dir)
    assert.equal("io", code)
    assert.is_truthy(message:find("shard train-00001-of-00003 is not there", 1, true), message)
    assert.equal(2, #sets.files(message:match "'(.-)'"))
  end)

  it("are those that a pattern matches", function()
    local dir = folder("many", "a-1.jsonl", "a-2.jsonl", "b-1.jsonl", ".a-3.jsonl", "in.deep/a-1.jsonl")
    assert.same({ dir .. "/a-1.jsonl", dir .. "/a-2.jsonl" }, sets.files(dir .. "/a-*"))
    assert.same({ dir .. "/a-1.jsonl", dir .. "/b-1.jsonl" }, sets.files(dir .. "/?-1.jsonl"))
    assert.same({ dir .. "/in.deep/a-1.jsonl" }, sets.files(dir .. "/*/a*"))
    assert.equal("io", select(2, message_of(sets.files, dir .. "/c*")))
    core.files.write(dir .. "/a*", "") -- a name is taken as it is where there is such a file
    assert.same({ dir .. "/a*" }, sets.files(dir .. "/a*"))
  end)

  it("are asked for where a folder has none, or leaves a choice", function()
    local two = folder("two", "ARC-Challenge/test-00000-of-00001.parquet", "ARC-Easy/test-00000-of-00001.parquet")
    assert.is_truthy(message_of(sets.files, two):find("name one of its folders: ARC-Challenge, ARC-Easy", 1, true))
    assert.is_truthy(message_of(sets.files, folder("none", "README.md")):find("there is no file in it that ends", 1, true))
  end)
end)

-- Two shards of 20 questions each, made of one file's rows as JSONL, and the whole as Parquet.
local function questions(dir)
  core.files.mkdir(dir)
  local all = wane.records.read(ARROW .. "choices.parquet")
  for shard = 0, 1 do
    local lines = {}
    for i = 1, 20 do lines[i] = core.json.encode(all[20 * shard + i]) end
    core.files.write(("%s/test-%05d-of-00002.jsonl"):format(dir, shard), table.concat(lines, "\n") .. "\n")
  end
end

describe("question sets in shards", function()
  it("are one set, whose numbers go on", function()
    questions(root .. "/sets/arc/data")
    local list, numbers = tasks.read(root .. "/sets", tasks.arc)
    core.files.mkdir(root .. "/single")
    core.files.write(root .. "/single/arc.parquet", core.files.read(ARROW .. "choices.parquet"))
    assert.same(tasks.read(root .. "/single", tasks.arc), list)
    assert.same({ 40, 1, 40 }, { #list, numbers[1], numbers[40] })
  end)

  it("change the keys of a study when a shard changes", function()
    local files = tasks.files(root .. "/sets", "arc")
    local before = sets.hash(files)
    core.files.write(files[2], core.files.read(files[2]) .. "\n")
    assert.not_equal(before, sets.hash(files))
    assert.equal(core.files.sha256_file(files[1]), sets.hash { files[1] })
  end)
end)

describe("calibration in shards", function()
  it("is spread over all of them", function()
    local dir = root .. "/chats"
    core.files.mkdir(dir)
    for shard = 0, 1 do
      core.files.write(("%s/train-%05d-of-00002.parquet"):format(dir, shard), core.files.read(ARROW .. "choices.parquet"))
    end
    local c = wane.calibration { file = dir, text = "question", samples = 4 }
    assert.same({ 80, 4, 2 }, { c.count, c.samples, c.files })
    local rows = wane.records.read(ARROW .. "choices.parquet")
    assert.equal(rows[11].question, c.list[1].text)
    assert.equal(rows[11].question, c.list[3].text)
    assert.equal(rows[31].question, c.list[4].text)
    assert.is_truthy(tostring(c):find("chats (2 files)   4 of 80 records", 1, true), tostring(c))
    assert.equal(c.hash, wane.calibration { file = dir .. "/train-*", text = "question" }.hash)
  end)

  it("is text of several files too", function()
    local dir = root .. "/prose"
    core.files.mkdir(dir)
    core.files.write(dir .. "/a.txt", "one\ntwo\n")
    core.files.write(dir .. "/b.txt", "three")
    local c = wane.calibration { file = dir .. "/*.txt" }
    assert.equal(3, c.count)
    assert.equal("three", c.list[3].messages[1].content)
  end)

  it("names the shard that is wrong", function()
    local dir = root .. "/wrong"
    core.files.mkdir(dir)
    core.files.write(dir .. "/a-0.jsonl", '{"prompt":"x"}\n')
    core.files.write(dir .. "/a-1.jsonl", '{"prompt":"x"}\n{"promt":"y"}\n')
    assert.is_truthy(message_of(wane.calibration, { file = dir }):find("wrong/a-1.jsonl:2:1: a record needs messages", 1, true))
  end)
end)
