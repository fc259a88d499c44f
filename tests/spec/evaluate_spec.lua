-- Evaluations: what a model that is made up says, in all the ways that once fooled a study, and what lune-1m says.
local wane = require "wane"
local process = require "support.process"
local core = wane.core

local dir = process.folder()
teardown(function() os.execute("rm -r " .. process.quote(dir)) end)

local function write(name, text)
  core.files.mkdir((dir .. "/" .. name):match("^(.*)/"))
  core.files.write(dir .. "/" .. name, text)
end

local function lines(list)
  local out = {}
  for i, record in ipairs(list) do out[i] = core.json.encode(record) end
  return table.concat(out, "\n") .. "\n"
end

-- A folder of question sets, each a list of records.
local function data(name, sets)
  for task, list in pairs(sets) do write(("%s/%s.test.jsonl"):format(name, task), lines(list)) end
  return dir .. "/" .. name
end

local ARC = {
  { question = "One? A. x B. y C. z D. w", answer = "A" },
  { question = "Two? 1. x 2. y 3. z 4. w", answer = "3" },
  { question = "Three? A. x B. y C. z D. w", answer = "D" },
  { question = "Four? A. x B. y C. z D. w", answer = "B" },
}

-- A model that answers by a table or function of the user's message; everything else about it is as small as can be.
-- finish and ids may be given with an answer: { text, finish, ids }.
local function made_up(answers, weights)
  local name = "models/" .. core.files.sha256(weights or "w"):sub(1, 8)
  write(name .. "/model.safetensors", weights or "w")
  local asked = {}
  local model = setmetatable({ dir = dir .. "/" .. name, parameters = 1000, bytes = 2000, asked = asked,
                               config = { max_position_embeddings = 200 } }, { __name = "wane.model" })
  model.tokenizer = {}
  function model.tokenizer.prompt(_, messages, o)
    local parts = {}
    for i, m in ipairs(messages) do parts[i] = ("<%s>%s"):format(m.role, m.content) end
    if o.enable_thinking then parts[#parts + 1] = "<think>" end
    local text = table.concat(parts)
    local ids = {}
    for i = 1, math.max(1, #messages[#messages].content) do ids[i] = text:byte(i) end
    ids.text = text
    return ids, text
  end
  function model.generate(_, prompts, o)
    local out = {}
    for i, ids in ipairs(prompts) do
      local user = ids.text:match("<user>(.*)$")
      if o.max_tokens > 1 then asked[#asked + 1] = user end
      local answer = type(answers) == "function" and answers(user, o) or answers
      if type(answer) == "string" then answer = { answer } end
      out[i] = { text = answer[1], ids = answer[3] or { 1, 2, 3 }, finish = answer[2] or "stop", seconds = 0.25 }
      out[i].tokens = #out[i].ids
    end
    return out
  end
  return model
end

local function raises(code, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.equal(code, type(err) == "table" and err.code or err)
  return err
end

describe("an evaluation of a model that is made up", function()
  local sets
  lazy_setup(function() sets = data("four", { arc = ARC }) end)

  it("scores boxed answers, letters and the numbers that some sets have for them", function()
    local result = wane.evaluate(made_up(function(user)
      return user:find("^Two") and "It is \\boxed{C}." or "\\boxed{\\text{A}}"
    end), { tasks = { "arc" }, data = sets })
    assert.same({ 4, 2, 0.5, 1.0 }, { result.n, result.correct, result.accuracy, result.format_compliance })
    assert.same({ "A", "C", "A", "A" }, { result.samples[1].answer, result.samples[2].answer, result.samples[3].answer,
                                          result.samples[4].answer })
    assert.equal("C", result.samples[2].gold)
    assert.equal(1, result.tasks.arc.confusion.C.C)
  end)

  it("puts the system's message first, and keeps question and passage apart", function()
    local boolq = data("prompts", { boolq = { { question = "is it?", context = "It is.", answer = true } } })
    local result = wane.evaluate(made_up("\\boxed{True}"), { tasks = { "boolq" }, data = boolq })
    assert.is_truthy(result.samples[1].prompt:find("^<system>You are answering.*<user>Context: It is%.\n\nQuestion: is it%?$"))
    local other = wane.evaluate(made_up("\\boxed{True}"), { tasks = { "boolq" }, data = boolq, thinking = true,
                                                            system = { boolq = "Say so." } })
    assert.equal("<system>Say so.<user>Context: It is.\n\nQuestion: is it?<think>", other.samples[1].prompt)
  end)

  it("gives silence no point, in any set, and flags it", function()
    local all = data("silent", {
      arc = { ARC[1] }, boolq = { { question = "q", context = "c", answer = false } },
      squad_v2 = { { question = "q", context = "c", answer = "" } }, openmath = { { question = "q", answer = 0 } },
    })
    local result = wane.evaluate(made_up { " \n", "length" }, { data = all })
    assert.same({ 4, 0, 0.0 }, { result.n, result.correct, result.format_compliance })
    assert.same({ empty = 4 }, result.flags)
    assert.equal("empty", result.samples[1].verdict)
    local said = false
    for _, warning in ipairs(result.warnings) do said = said or warning == "4 of 4 answers flagged: empty" end
    assert.is_true(said)
  end)

  for _, row in ipairs {
    { "text without a box", { "It is A." }, "no box" },
    { "an empty box", { "\\boxed{ }" }, "no box" },
    { "an answer that was cut off", { "First we note that", "length" }, "too long" },
    { "a loop", { "and and and", "loop" }, "loop" },
    { "a loop that began with a box", { "\\boxed{B} so so so", "loop" }, "loop" },
    { "NaN in the middle", function(_, o) return { "It", o.max_tokens == 1 and "length" or "nan" } end, "nan" },
    { "a wrong box", { "\\boxed{B}" }, nil },
  } do
    it("calls by its name " .. row[1], function()
      local result = wane.evaluate(made_up(row[2]), { tasks = { "arc" }, data = sets, trunc_eval = 1 })
      assert.equal(row[3], result.samples[1].flag)
      assert.equal(row[3] or "wrong", result.samples[1].verdict)
      assert.equal(0, result.correct)
    end)
  end

  it("asks nothing of a model that computes NaN at once", function()
    local model = made_up { "", "nan", {} }
    local err = raises("numeric", wane.evaluate, model, { tasks = { "arc" }, data = sets })
    assert.is_truthy(err.message:find("computes NaN", 1, true))
    assert.same({}, model.asked)
  end)

  it("counts the ids that were generated", function()
    local result = wane.evaluate(made_up { "\\boxed{A} and much text of few ids", "box", { 5, 6, 7, 8, 9 } },
      { tasks = { "arc" }, data = sets })
    assert.same({ mean = 5.0, median = 5.0, p95 = 5.0, total = 20 }, result.tokens)
    assert.equal(5, result.samples[1].tokens)
    assert.same({ mean = 250.0, median = 250.0, p95 = 250.0, total = 1000.0 }, result.latency)
  end)

  it("warns that few questions cannot tell, with the interval", function()
    local result = wane.evaluate(made_up("\\boxed{A}"), { tasks = { "arc" }, data = sets, trunc_eval = 2 })
    assert.equal("n = 2 is too small to tell: 1 right is anything from 9 % to 91 % (95 %)", result.warnings[1])
    local many = {}
    for i = 1, 100 do many[i] = { question = "Q" .. i .. " A. a B. b C. c D. d", answer = "A" } end
    local enough = wane.evaluate(made_up("\\boxed{A}"), { tasks = { "arc" }, data = data("many", { arc = many }) })
    assert.same({}, enough.warnings)
    assert.is_true(enough.interval[1] > 0.96 and enough.interval[2] == 1.0)
  end)

  it("takes the first so many of each set; 0 and less are all", function()
    for trunc, n in pairs { [1] = 1, [3] = 3, [9] = 4, [0] = 4, [-1] = 4 } do
      assert.equal(n, wane.evaluate(made_up("\\boxed{A}"), { tasks = { "arc" }, data = sets, trunc_eval = trunc }).n)
    end
  end)

  it("does not ask what the model has no positions for, and counts it", function()
    local long = data("long", { arc = { ARC[1], { question = ("long "):rep(100), answer = "A" } } })
    local model = made_up("\\boxed{A}")
    local result = wane.evaluate(model, { tasks = { "arc" }, data = long })
    assert.same({ 2, 1 }, { result.n, result.correct })
    assert.equal("prompt too long", result.samples[2].verdict)
    assert.equal(1, #model.asked)
  end)

  it("reports how many numbers were parsed beside their mean difference", function()
    local maths = data("maths", { openmath = {
      { question = "a", answer = 10 }, { question = "b", answer = 1008 }, { question = "c", answer = 0.5 },
      { question = "d", answer = 7 } } })
    local result = wane.evaluate(made_up(function(user)
      return ({ a = "\\boxed{12}", b = "\\boxed{1,008}", c = "so \\boxed{\\frac{1}{2}}", d = "seven" })[user]
    end), { tasks = { "openmath" }, data = maths })
    local m = result.tasks.openmath
    assert.same({ 2, 3, 4 }, { m.correct, m.parsed, m.asked })
    assert.is_true(math.abs(m.mean_absolute_difference - 2 / 3) < 1e-12)
  end)

  it("counts questions that the calibration set has too", function()
    local calibration = wane.calibration { texts = { { { role = "user", content = ARC[1].question:upper() } } }, force = true }
    local result = wane.evaluate(made_up("\\boxed{A}"), { tasks = { "arc" }, data = sets, calibration = calibration })
    assert.equal(1, result.overlap)
    assert.equal("1 of 4 questions are in the calibration set too, which flatters", result.warnings[2])
  end)

  it("takes a task of one's own", function()
    local own = {
      name = "echo", system = "Echo.", problem = function(r) return not r.say and "say is missing" or nil end,
      user = function(r) return r.say end, gold = function(r) return r.say end,
      judge = function(r, inside) return { answer = inside, correct = inside == r.say } end,
      metrics = function(samples) return { seen = #samples } end,
    }
    local result = wane.evaluate(made_up(function(user) return ("\\boxed{%s}"):format(user) end),
      { tasks = { own }, data = data("echo", { echo = { { say = "hi" }, { say = "ho" } } }) })
    assert.same({ 2, 2 }, { result.correct, result.tasks.echo.seen })
  end)

  it("tells how far it is, set by set", function()
    local heard = {}
    wane.evaluate(made_up("\\boxed{A}"), { tasks = { "arc" }, data = sets,
      progress = function(done, of, what) heard[#heard + 1] = ("%d/%d %s"):format(done, of, what) end })
    assert.same({ "0/1 arc", "1/1 " }, heard)
  end)
end)

describe("before a question is asked", function()
  local function refused(sets, code, message, given)
    local model = made_up("\\boxed{A}")
    local o = { data = sets }
    for key, value in pairs(given or {}) do o[key] = value end
    local err = raises(code, wane.evaluate, model, o)
    assert.is_truthy(err.message:find(message, 1, true), err.message)
    assert.same({}, model.asked)
  end

  it("a set that is not there is named, with both of its names", function()
    refused(data("one", { arc = ARC }), "io", "no boolq.test.jsonl or boolq.jsonl in " .. dir .. "/one")
  end)
  it("a broken record is named by file, line and column, though it is in the last set", function()
    data("broken", { arc = ARC })
    write("broken/openmath.jsonl", '{"question":"q","answer":1}\n{"question":"q","answer":}\n')
    refused(dir .. "/broken", "format", "openmath.jsonl:2:26: not JSON", { tasks = { "arc", "openmath" } })
  end)
  it("a record without an answer that counts is named", function()
    refused(data("letters", { arc = { ARC[1], { question = "q", answer = "E" } } }), "format",
      "arc.test.jsonl:2:1: answer must be A to D or 1 to 4", { tasks = { "arc" } })
  end)
  it("an unknown task, option or no task at all is an ordinary error", function()
    for message, given in pairs { ["did you mean arc?"] = { tasks = { "arcc" } }, ["did you mean tasks?"] = { task = "arc" },
                                  ["tasks is empty"] = { tasks = {} } } do
      local ok, err = pcall(function() assert(wane.evaluate(made_up("x"), given)) end)
      assert.is_false(ok)
      assert.is_string(err)
      assert.is_truthy(err:find(message, 1, true), err)
      assert.is_truthy(err:find("evaluate_spec.lua", 1, true), err)
    end
  end)
end)

describe("the key of a result", function()
  local sets, base
  local function key(given, weights)
    local o = { tasks = { "arc" }, data = sets, trunc_eval = 2 }
    for name, value in pairs(given or {}) do o[name] = value end
    return wane.evaluate(made_up("\\boxed{A}", weights), o).key
  end
  lazy_setup(function()
    sets = data("keys", { arc = ARC })
    base = key()
  end)

  it("is the same for the same", function()
    assert.equal(base, key())
    assert.equal(64, #base)
  end)
  it("does not hear of batches, names and where the sets lie", function()
    assert.equal(base, key { batch = 3, name = "another", data = data("keys_elsewhere", { arc = ARC }) })
  end)
  for what, given in pairs {
    ["the number of questions"] = { trunc_eval = 3 }, ["the longest answer"] = { max_tokens = 10 },
    ["a thinking part"] = { thinking = true }, ["the system's message"] = { system = { arc = "Be brief." } },
  } do
    it("changes with " .. what, function() assert.not_equal(base, key(given)) end)
  end
  it("changes with the weights", function() assert.not_equal(base, key(nil, "other")) end)
  it("changes with a question, and with what is right", function()
    local changed = { { question = "One! A. x B. y C. z D. w", answer = "A" }, ARC[2] }
    assert.not_equal(base, key { data = data("keys_question", { arc = changed }) })
    changed = { { question = ARC[1].question, answer = "B" }, ARC[2] }
    assert.not_equal(base, key { data = data("keys_gold", { arc = changed }) })
  end)
end)

describe("the file of samples", function()
  local sets, path
  lazy_setup(function()
    sets = data("samples", { arc = ARC, openmath = { { question = "n", answer = 4 } } })
    path = dir .. "/samples.jsonl"
  end)
  before_each(function() core.files.remove(path) end)
  local function ask(model, given)
    local o = { tasks = { "arc", "openmath" }, data = sets, samples = path }
    for name, value in pairs(given or {}) do o[name] = value end
    return wane.evaluate(model, o)
  end

  it("has one line a question with all that was asked and said", function()
    ask(made_up { "It is \\boxed{A}.", "stop", { 7, 8 } })
    local list = wane.records.read(path)
    assert.equal(5, #list)
    local line = list[1]
    assert.same({ "arc", 1, "It is \\boxed{A}.", "A", "A", "A", "right", true, 250.0, 2 },
      { line.task, line.line, line.text, line.extracted, line.answer, line.gold, line.verdict, line.correct,
        line.milliseconds, line.tokens })
    assert.same({ 7, 8 }, { line.ids[1], line.ids[2] })
    assert.is_truthy(line.prompt:find("<user>One?", 1, true))
    assert.same({ 16, 32 }, { #line.id, #line.key })
  end)

  it("says null where there was no box", function()
    ask(made_up { "", "length", {} })
    local text = core.files.read(path)
    assert.is_truthy(text:find('"extracted":null', 1, true))
    assert.is_truthy(text:find('"ids":[]', 1, true))
    assert.is_truthy(text:find('"answer":null', 1, true))
  end)

  it("is where the same command goes on", function()
    local first = ask(made_up("\\boxed{A}"))
    local model = made_up("\\boxed{D}")
    local again = ask(model)
    assert.same({}, model.asked)
    assert.same({ 5, first.correct, first.key }, { again.reused, again.correct, again.key })
    -- one line is damaged and one lost: these two are asked again
    local text = core.files.read(path):gsub("^[^\n]*\n", "", 1):gsub('"text":', '"txt":', 1)
    core.files.write(path, text)
    again = ask(model)
    assert.equal(2, #model.asked)
    assert.same({ 3, "D" }, { again.reused, again.samples[1].answer })
  end)

  it("gives nothing to other weights or settings", function()
    ask(made_up("\\boxed{A}"))
    local other = made_up("\\boxed{D}", "other weights")
    ask(other)
    assert.equal(5, #other.asked)
    local longer = made_up("\\boxed{D}", "other weights")
    ask(longer, { max_tokens = 7 })
    assert.equal(5, #longer.asked)
  end)

  it("keeps what was answered where a later set fails, and loses no kept answer on the way", function()
    local function failing(user)
      if user == "n" then wane.fail { code = "oom", message = "no room" } end
      return "\\boxed{A}"
    end
    raises("oom", ask, made_up(failing))
    assert.equal(4, #wane.records.read(path))
    local model = made_up("\\boxed{4}")
    local result = ask(model)
    assert.same({ "n" }, model.asked)
    assert.equal(4, result.reused)
    -- a run that stops in the first set still has the last set's line
    core.files.write(path, (core.files.read(path):gsub("^[^\n]*\n", "", 1)))
    raises("oom", ask, made_up(function() wane.fail { code = "oom", message = "no room" } end))
    assert.equal(4, #wane.records.read(path))
  end)
end)

describe("lune-1m", function()
  local model, result
  lazy_setup(function()
    model = wane.load "examples/models/lune-1m"
    result = wane.evaluate(model, { trunc_eval = 2 })
  end)
  lazy_teardown(function() model:close() end)

  it("answers", function()
    assert.equal(8, result.n)
    assert.is_true(result.correct >= 6)
    assert.equal(1.0, result.format_compliance)
    for _, s in ipairs(result.samples) do
      assert.equal(s.text, model.tokenizer:decode(s.ids, { skip_special = true }))
      assert.equal(#s.ids, s.tokens)
      assert.is_true(s.milliseconds > 0)
      assert.is_truthy(s.prompt:find("<|im_start|>system\n", 1, true))
      assert.is_true(s.prompt:find("system", 1, true) < s.prompt:find("<|im_start|>user", 1, true))
    end
  end)

  it("is described by what its files hold", function()
    local bytes = core.files.size "examples/models/lune-1m/model.safetensors"
    assert.equal(bytes, result.bytes)
    assert.is_true(math.abs(result.bits_per_weight - 8 * bytes / model.parameters) < 1e-12)
    assert.is_nil(result.quantization)
    assert.is_true(result.peak_bytes > bytes)
    assert.is_string(result.hardware.device)
  end)

  it("says the same in batches of one", function()
    local alone = wane.evaluate(model, { trunc_eval = 2, batch = 1 })
    assert.equal(result.key, alone.key)
    for i, s in ipairs(alone.samples) do assert.same(result.samples[i].ids, s.ids) end
  end)

  it("reads the real records, numbers for letters and fractions among them", function()
    local real = wane.evaluate(model, { tasks = { "arc", "openmath" }, data = "tests/reference/data", trunc_eval = 40,
                                        max_tokens = 4 })
    assert.equal(80, real.n)
    assert.equal(real.n, real.tasks.arc.n + real.tasks.openmath.n)
  end)

  it("asked by a task, every real record makes a prompt and has an answer", function()
    local tasks = require "wane.tasks"
    for _, task in ipairs(tasks) do
      local list = wane.records.read(tasks.files("tests/reference/data", task.name)[1], task.problem)
      assert.equal(200, #list)
      local unanswerable = 0
      for _, record in ipairs(list) do
        local gold = tostring(task.gold(record))
        if gold == "" then unanswerable = unanswerable + 1 end
        assert.is_true(task.judge(record, gold == "" and "unanswerable" or gold).correct, gold)
        assert.is_false(task.judge(record, nil).correct)
      end
      if task.name == "squad_v2" then assert.equal(98, unanswerable) end
    end
  end)
end)
