-- Calibration sets: what is read, what is refused and where, which tokens count for how much.
local wane = require "wane"
local core = wane.core

local LUNE <const> = "examples/data/calibration.jsonl"

local folder
local function file(name, text)
  local path = folder .. "/" .. name
  core.files.write(path, text)
  return path
end

local function format_error(f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.equal(core.error, getmetatable(err), tostring(err))
  assert.equal("format", err.code)
  return err.message
end

setup(function()
  folder = os.tmpname()
  os.remove(folder)
  core.files.mkdir(folder)
end)
teardown(function() core.files.remove(folder) end)

describe("a calibration file", function()
  it("of chats is read, counted and hashed", function()
    local c = wane.calibration { file = LUNE }
    assert.same({ 128, 128, 512, "unique", 1 }, { c.count, c.samples, c.tokens, c.weights, c.answer })
    assert.equal("calibration examples/data/calibration.jsonl   128 of 128 records   at most 512 tokens   unique",
      tostring(c))
    assert.equal(64, #c.hash)
  end)

  it("has one hash however its lines end", function()
    local hash = core.files.sha256 "one question\nanother question"
    for i, text in ipairs { "one question\nanother question\n", "one question\r\n\r\n  another question",
                            "\u{feff}one question  \n\nanother question\n\n" } do
      local c = wane.calibration { file = file("plain" .. i .. ".txt", text) }
      assert.equal(hash, c.hash)
      assert.equal(2, c.count)
    end
  end)

  it("may hold messages, prompts with or without an answer, or texts", function()
    local c = wane.calibration { file = file("kinds.jsonl", table.concat({
      [[{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]],
      [[{"prompt": "c", "completion": "d"}]], [[{"prompt": "e"}]], [[{"text": "f"}]] }, "\n")) }
    assert.same({ { role = "user", content = "c" }, { role = "assistant", content = "d" } }, c.list[2].messages)
    assert.equal(1, #c.list[3].messages)
    assert.equal("f", c.list[4].text)
    local named = wane.calibration { file = file("named.jsonl", [[{"body": "g"}]]), text = "body" }
    assert.equal("g", named.list[1].text)
  end)

  it("is sampled evenly, in order", function()
    local lines = {}
    for i = 1, 10 do lines[i] = ("question number %d"):format(i) end
    local path = file("ten.txt", table.concat(lines, "\n"))
    local c, chosen = wane.calibration { file = path, samples = 4 }, {}
    for i, record in ipairs(c.list) do chosen[i] = record.messages[1].content:match "%d+" end
    assert.same({ "2", "4", "7", "9" }, chosen)
    assert.equal(10, c.count)
    assert.equal(10, #wane.calibration({ file = path, samples = 11 }).list)
  end)

  it("may be JSON, and null is nothing", function()
    local c = wane.calibration { file = file("list.json", [=[[{"prompt": "c", "completion": null, "messages": null, "answer": "d"},
      {"text": "f", "prompt": null}]]=]) }
    assert.same({ { role = "user", content = "c" }, { role = "assistant", content = "d" } }, c.list[1].messages)
    assert.equal("f", c.list[2].text)
    assert.matches("odd%.json: record 2: a record needs", format_error(wane.calibration, { file = file("odd.json", '[{"text":"a"},{}]') }))
  end)

  it("of plain text is a prompt a line, texts between empty lines, or one text", function()
    local path = file("book.txt", "\u{feff}One line,\r\nanother.\r\n  \r\n\r\n  The second part.\n")
    local function texts(plain)
      local found = {}
      for i, r in ipairs(wane.calibration { file = path, plain = plain }.list) do
        found[i] = r.text or r.messages[1].content
      end
      return found
    end
    assert.same({ "One line,", "another.", "The second part." }, texts "lines")
    assert.same({ "One line,\nanother.", "The second part." }, texts "paragraphs")
    assert.equal(1, #texts "file")
    assert.error_matches(function() texts "words" end, "paragraphs")
  end)

  it("that is broken says file, line and column", function()
    local good = [[{"text": "a"}]]
    local message = format_error(wane.calibration, { file = file("broken.jsonl", good .. "\n" .. [[{"text": "b",}]]) })
    assert.matches("broken%.jsonl:2:%d+: ", message)
    for name, line in pairs { missing = [[{"question": "a"}]], list = "[1, 2]", empty = [[{"messages": []}]],
                              role = [[{"messages": [{"role": "wizard", "content": "a"}]}]],
                              content = [[{"messages": [{"role": "user", "content": 4}]}]] } do
      message = format_error(wane.calibration, { file = file(name .. ".jsonl", good .. "\n\n" .. line .. "\n") })
      assert.matches(name .. "%.jsonl:3:1: ", message)
    end
    assert.matches("empty", format_error(wane.calibration, { file = file("nothing.txt", " \n\n") }))
  end)

  it("that is not there is an io error", function()
    assert.equal("io", select(2, wane.try("io", wane.calibration, { file = folder .. "/none" })).code)
  end)
end)

describe("options", function()
  it("are checked", function()
    assert.error_matches(function() wane.calibration { sample = 4 } end, "did you mean samples")
    assert.error_matches(function() wane.calibration {} end, "file = or texts =")
    assert.error_matches(function() wane.calibration { file = LUNE, texts = { "a" } } end, "file = or texts =")
    assert.error_matches(function() wane.calibration { texts = { 1 } } end, "text 1")
    assert.error_matches(function() wane.calibration { file = LUNE, weights = "uniqe" } end, "unique")
    assert.error_matches(function() wane.calibration { file = LUNE, samples = 0 } end, "samples")
  end)
end)

describe("bound to a model", function()
  local model
  setup(function() model = wane.load "examples/models/lune-1m" end)
  teardown(function() model:close() end)

  it("chats go through the model's template", function()
    local bound = wane.calibration({ file = LUNE }):bind(model)
    assert.equal(128, #bound.ids)
    assert.equal(13652, bound.tokens)
    local chat = core.json.decode(core.files.read(LUNE):match "[^\n]+")
    assert.equal(model.tokenizer:chat(chat.messages, { enable_thinking = false }), model.tokenizer:decode(bound.ids[1]))
    assert.is_false(bound.weights[1])
  end)

  it("plain prompts do as well, up to where an answer would begin", function()
    local c = wane.calibration { file = file("prompt.txt", "What is 99 - 75?"), force = true }
    assert.equal(model.tokenizer:chat({ { role = "user", content = "What is 99 - 75?" } },
      { add_generation_prompt = true, enable_thinking = false }), model.tokenizer:decode(c:bind(model).ids[1]))
  end)

  it("texts stay as they are", function()
    local c = wane.calibration { texts = { "Sara has 43 eggs and buys 37 more." }, force = true }
    assert.equal("Sara has 43 eggs and buys 37 more.", model.tokenizer:decode(c:bind(model).ids[1]))
  end)

  it("answers can count for more, and nothing else does", function()
    local chat = { { role = "user", content = "What is 2 + 3?" }, { role = "assistant", content = "\\boxed{5}" },
                   { role = "user", content = "And 4 + 5?" }, { role = "assistant", content = "\\boxed{9}" } }
    local bound = wane.calibration({ texts = { chat }, answer = 10, force = true }):bind(model)
    local weighty = {}
    for i, weight in ipairs(bound.weights[1]) do
      if weight == 10 then weighty[#weighty + 1] = bound.ids[1][i] else assert.equal(1, weight) end
    end
    local said = model.tokenizer:decode(weighty)
    assert.matches("\\boxed{5}", said, 1, true)
    assert.matches("\\boxed{9}", said, 1, true)
    assert.is_nil(said:find("What", 1, true))
    assert.is_nil(said:find("And", 1, true))
    assert.equal(#bound.weights[1], #bound.ids[1])
  end)

  it("long texts are cut", function()
    local c = wane.calibration { texts = { ("many words "):rep(500) }, tokens = 20, force = true }
    local bound = c:bind(model)
    assert.equal(20, #bound.ids[1])
    assert.equal(20, bound.tokens)
  end)

  it("a file that is one text is cut into samples, spread over it", function()
    local path = file("long.txt", ("many words and 99 more\n"):rep(200))
    local whole = model.tokenizer:encode(wane.calibration { file = path, plain = "file" }.list[1].text, { special = true })
    local bound = wane.calibration({ file = path, plain = "file", samples = 4, tokens = 20, force = true }):bind(model)
    assert.equal(4, #bound.ids)
    assert.equal(80, bound.tokens)
    local all = wane.calibration({ file = path, plain = "file", samples = 10000, tokens = 20, force = true }):bind(model)
    assert.is_true(#whole - all.tokens < 8) -- what is left at the end is too short
    assert.same(table.move(whole, 1, 20, 1, {}), all.ids[1])
    assert.same(table.move(whole, 21, 40, 1, {}), all.ids[2])
  end)

  it("a set that is too small says what it has, unless forced", function()
    local message = format_error(function()
      wane.calibration({ texts = { "Sara has 43 eggs and buys 37 more.", "a" } }):bind(model)
    end)
    assert.matches("2 records, 1 of at least 8 tokens, %d+ tokens in all", message)
    format_error(function() wane.calibration({ texts = { "a" }, force = true }):bind(model) end)
  end)
end)

describe("overlap with an evaluation set", function()
  it("is found whatever the case and the spaces", function()
    local c = wane.calibration { texts = { "What is  99 - 75?", { { role = "user", content = "How many\neggs?" } } } }
    assert.same({ 2, 3 }, c:overlap { "nothing", "what is 99 - 75?", " HOW MANY EGGS?", "eggs?" })
  end)

  it("is not there between the bundled sets", function()
    local tasks, records = require "wane.tasks", require "wane.records"
    local c = wane.calibration { file = LUNE }
    for _, name in ipairs { "arc", "boolq", "squad_v2", "openmath" } do
      local task, texts = tasks.get(name), {}
      for i, record in ipairs((records.read(("examples/data/%s.test.jsonl"):format(name)))) do
        texts[i] = task.user(record)
      end
      assert.same({}, c:overlap(texts))
    end
  end)
end)
