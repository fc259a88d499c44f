-- The question sets: what is right, what is silence, and the figures over both.
local tasks = require "wane.tasks"

local function judged(task, rows)
  local samples = {}
  for i, row in ipairs(rows) do
    samples[i] = task.judge(row[1], row[2])
    samples[i].gold = task.gold(row[1])
  end
  return samples
end

describe("every task", function()
  for _, task in ipairs(tasks) do
    it(task.name .. " gives silence no point", function()
      local record = { question = "q", context = "c", answer = ({ arc = "B", boolq = false, squad_v2 = "", openmath = 0 })[task.name] }
      assert.is_nil(task.problem(record))
      assert.is_false(task.judge(record, nil).correct)
    end)
    it(task.name .. " refuses a record without a question or an answer", function()
      assert.is_string(task.problem { context = "c", answer = "A" })
      assert.is_string(task.problem { question = "q", context = "c" })
    end)
  end
  it("is found by name, or the names are told", function()
    assert.equal("arc", tasks.get("arc").name)
    assert.has_error(function() tasks.get("arcc") end)
  end)
end)

describe("arc", function()
  local arc = tasks.arc
  it("takes letters and, where a record has them, numbers", function()
    assert.equal("C", arc.gold { answer = "3" })
    assert.is_true(arc.judge({ answer = "3" }, "3").correct)
    assert.is_true(arc.judge({ answer = "C" }, "C. gold").correct)
    assert.is_false(arc.judge({ answer = "C" }, "D").correct)
    assert.is_string(arc.problem { question = "q", answer = "E" })
  end)
  it("counts confusions, silence among them", function()
    local m = arc.metrics(judged(arc, { { { answer = "A" }, "A" }, { { answer = "A" }, "B" }, { { answer = "B" }, nil } }))
    assert.equal(1, m.confusion.A.A)
    assert.equal(1, m.confusion.A.B)
    assert.equal(1, m.confusion.B.none)
    assert.equal(0.5, m.classes.A.recall)
  end)
end)

describe("boolq", function()
  it("counts the four cells, silence as an error", function()
    local yes, no = { answer = true }, { answer = false }
    local m = tasks.boolq.metrics(judged(tasks.boolq,
      { { yes, "True" }, { yes, "False" }, { no, "false" }, { no, "Yes" }, { no, nil }, { yes, nil } }))
    assert.same({ 1, 1, 2, 2, 2 }, { m.tp, m.tn, m.fp, m.fn, m.unparsed })
    assert.is_true(math.abs(m.balanced_accuracy - 1 / 3) < 1e-12)
  end)
end)

describe("squad_v2", function()
  local squad = tasks.squad_v2
  it("wants an abstention to be said", function()
    assert.is_true(squad.judge({ answer = "" }, "unanswerable").correct)
    assert.is_false(squad.judge({ answer = "" }, nil).correct)
    assert.is_false(squad.judge({ answer = "" }, "Paris").correct)
    assert.is_false(squad.judge({ answer = "Paris" }, "Unanswerable").correct)
  end)
  it("takes the best of several right answers", function()
    local s = squad.judge({ answers = { "the red kite", "kite" } }, "red kite")
    assert.is_true(s.correct)
    assert.equal(1, s.f1)
  end)
  it("has figures for both halves", function()
    local m = squad.metrics(judged(squad, { { { answer = "Rome" }, "Rome" }, { { answer = "red kite" }, "kite" },
      { { answer = "" }, "unanswerable" }, { { answer = "" }, "Rome" } }))
    assert.equal(0.5, m.em)
    assert.equal(0.5, m.has_answer.em)
    assert.equal(0.5, m.no_answer.accuracy)
    assert.equal(0.75, m.avna)
    assert.is_true(math.abs(m.f1 - (1 + 2 / 3 + 1 + 0) / 4) < 1e-12)
  end)
end)

describe("openmath", function()
  it("reports how many parsed beside the mean difference", function()
    local m = tasks.openmath.metrics(judged(tasks.openmath,
      { { { answer = 10 }, "10" }, { { answer = 10 }, "12" }, { { answer = 10 }, "ten" }, { { answer = 10 }, nil } }))
    assert.same({ 2, 4, 1.0 }, { m.parsed, m.asked, m.mean_absolute_difference })
  end)
  it("takes gold answers with a fraction", function()
    assert.is_true(tasks.openmath.judge({ answer = 16.67 }, "16.67").correct)
    assert.is_true(tasks.openmath.judge({ answer = "1,008" }, "1008").correct)
  end)
end)

describe("records of the Hub's sets", function()
  local process = require "support.process"
  local core = require("wane").core
  local dir = process.folder()
  teardown(function() os.execute("rm -r " .. dir) end)

  local function read(name, lines)
    core.files.write(("%s/%s.jsonl"):format(dir, name), table.concat(lines, "\n"))
    return tasks.read(dir, tasks[name])
  end

  local function choices(labels, key, count)
    local texts = {}
    for i = 1, count or 4 do texts[i] = '"t' .. i .. '"' end
    return ([[{"id":"x","question":"q?","choices":{"text":[%s],"label":[%s]},"answerKey":"%s"}]]):format(
      table.concat(texts, ","), labels, key)
  end

  it("become questions with letters, whatever the labels", function()
    local list = read("arc", { choices([["A","B","C","D"]], "C"), choices([["1","2","3","4"]], "2") })
    assert.same({ question = "q? A. t1 B. t2 C. t3 D. t4", answer = "C", title = "x" }, list[1])
    assert.equal("B", list[2].answer)
  end)

  it("without four options are left out and counted", function()
    local five = choices([["A","B","C","D","E"]], "E", 5)
    local list, lines, left = read("arc", { five, choices([["A","B","C","D"]], "A"), five })
    assert.same({ 1, 2 }, { #list, lines[1] })
    assert.equal("2 of 3 records of arc do not have four options and are left out", left)
    local ok, err = pcall(read, "arc", { five })
    assert.is_false(ok)
    assert.matches("arc%.jsonl: 1 of 1 records", err.message)
  end)

  it("with a key that is no label are wrong", function()
    local ok, err = pcall(read, "arc", { choices([["A","B","C","D"]], "A"), choices([["A","B","C","D"]], "E") })
    assert.is_false(ok)
    assert.matches("arc%.jsonl:2:1: answer must be A to D", err.message)
  end)

  it("of boolq, squad_v2 and openmath are understood", function()
    local yes = read("boolq", { [[{"question":"is it","answer":true,"passage":"p"}]] })[1]
    assert.same({ "Context: p\n\nQuestion: is it", true }, { tasks.boolq.user(yes), tasks.boolq.gold(yes) })
    local squad = read("squad_v2", { [[{"title":"t","context":"c","question":"q","answers":{"text":["a","b"],"answer_start":[1,2]}}]],
                                     [[{"context":"c","question":"q","answers":{"text":[],"answer_start":[]}}]] })
    assert.same({ "a", "" }, { tasks.squad_v2.gold(squad[1]), tasks.squad_v2.gold(squad[2]) })
    local list, lines, left = read("openmath", { [[{"problem":"2+2?","generated_solution":"s","expected_answer":"4"}]],
                                                 [[{"problem":"x?","expected_answer":"x + y"}]] })
    assert.same({ question = "2+2?", answer = "4" }, list[1])
    assert.same({ 1, 1 }, { #list, #lines })
    assert.equal("1 of 2 records of openmath have an answer that is no number and are left out", left)
  end)

  it("that are left out are told with the result", function()
    local wane = require "wane"
    read("arc", { choices([["A","B","C","D","E"]], "E", 5), choices([["A","B","C","D"]], "A") })
    local model <close> = wane.load "examples/models/lune-1m"
    local result = wane.evaluate(model, { tasks = { "arc" }, data = dir, max_tokens = 4 })
    assert.matches("1 of 2 records of arc do not have four options", result.warnings[#result.warnings], 1, true)
  end)
end)
