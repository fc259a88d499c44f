--- The four question sets: how a record becomes a prompt, when an answer is right, and each set's own figures.
-- A task is a table of small functions over one record:
--   name, system            its name, and the default system prompt
--   problem(record)         what is wrong with the record, or nil
--   user(record)            the user's message
--   gold(record)            what is right, as shown in the samples
--   judge(record, inside)   -> { answer, correct, ... } for a box's content; nil inside: no box, no point
--   metrics(samples)        -> the set's own figures over judged samples
--   fields                  names of what is read of a record; all unless given
--   from_hub(record)        -> a record of the Hub's set of that name in the task's own shape; nil where it is none,
--                              and why it must be left out where it is one that the task cannot ask
-- An answer without a box is wrong, whatever is right; an abstention must be said.
local core = require "wane.core"
local answers = require "wane.answers"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"
local records = require "wane.records"
local sets = require "wane.sets"
local statistics = require "wane.statistics"

local function with_context(record)
  if type(record.context) ~= "string" then return record.question end
  return ("Context: %s\n\nQuestion: %s"):format(record.context, record.question)
end

local function text_field(record, name)
  if type(record[name]) ~= "string" then return name .. " must be text" end
end

local LETTERS = { "A", "B", "C", "D" }

local arc = {
  name = "arc",
  title = "ARC Challenge: one of four options",
  system = "You are taking a multiple-choice test.\nEach question has exactly 4 options: A, B, C or D.\n"
    .. "Answer only with the letter of the correct option inside \\boxed{}, like this: \\boxed{C}",
  user = with_context,
}

arc.fields = { "title", "question", "context", "answer", "id", "choices", "answerKey" }

-- allenai/ai2_arc: { id, question, choices = { text, label }, answerKey }; labels may be digits
function arc.from_hub(record)
  local choices = record.choices
  if type(choices) ~= "table" or type(choices.text) ~= "table" or type(choices.label) ~= "table"
    or type(record.question) ~= "string" then return nil end
  if #choices.text ~= #LETTERS then return nil, "do not have four options" end
  local parts, answer = { record.question }, nil
  for i, letter in ipairs(LETTERS) do
    parts[i + 1] = letter .. ". " .. tostring(choices.text[i])
    if choices.label[i] == record.answerKey then answer = letter end
  end
  return { title = record.id, question = table.concat(parts, " "), answer = answer }
end

function arc.problem(record)
  return text_field(record, "question")
    or (not (type(record.answer) == "string" and answers.choice(record.answer)) and "answer must be A to D or 1 to 4")
    or nil
end

function arc.gold(record) return LETTERS[answers.choice(record.answer)] end

function arc.judge(record, inside)
  local choice = inside and answers.choice(inside)
  return { answer = choice and LETTERS[choice], correct = choice ~= nil and choice == answers.choice(record.answer) }
end

function arc.metrics(samples)
  local matrix = {}
  for _, gold in ipairs(LETTERS) do
    matrix[gold] = { none = 0 }
    for _, given in ipairs(LETTERS) do matrix[gold][given] = 0 end
  end
  for _, s in ipairs(samples) do
    local row, given = matrix[s.gold], s.answer or "none"
    row[given] = row[given] + 1
  end
  local classes, macro = statistics.classes(matrix, LETTERS)
  return { macro_f1 = macro, classes = classes, confusion = matrix }
end

local boolq = {
  name = "boolq",
  title = "BoolQ: true or false about a passage",
  system = "You are answering a true or false question about a passage.\n"
    .. "Answer only with True or False inside \\boxed{}, like this: \\boxed{True}",
  user = with_context,
}

boolq.fields = { "title", "question", "context", "answer", "passage" }

-- google/boolq: { question, answer, passage }
function boolq.from_hub(record)
  if type(record.passage) ~= "string" then return nil end
  return { title = record.title, question = record.question, context = record.passage, answer = record.answer }
end

local function truth(value)
  if type(value) == "boolean" then return value end
  if type(value) == "string" then return answers.truth(value) end
end

function boolq.problem(record)
  return text_field(record, "question") or text_field(record, "context")
    or (truth(record.answer) == nil and "answer must be true or false") or nil
end

function boolq.gold(record) return truth(record.answer) end

function boolq.judge(record, inside)
  local given
  if inside then given = answers.truth(inside) end
  return { answer = given, correct = given ~= nil and given == truth(record.answer) }
end

function boolq.metrics(samples)
  local tp, tn, fp, fn, none = 0, 0, 0, 0, 0
  for _, s in ipairs(samples) do
    if s.answer == nil then
      none = none + 1
      if s.gold then fn = fn + 1 else fp = fp + 1 end -- silence is an error of the kind that costs
    elseif s.gold then
      if s.answer then tp = tp + 1 else fn = fn + 1 end
    else
      if s.answer then fp = fp + 1 else tn = tn + 1 end
    end
  end
  local positive, negative = tp + fn, tn + fp
  local recall = positive > 0 and tp / positive or nil
  local specificity = negative > 0 and tn / negative or nil
  return {
    tp = tp, tn = tn, fp = fp, fn = fn, unparsed = none,
    f1 = tp > 0 and 2 * tp / (2 * tp + fp + fn) or 0.0,
    balanced_accuracy = recall and specificity and (recall + specificity) / 2 or recall or specificity,
    mcc = statistics.mcc(tp, tn, fp, fn),
  }
end

local squad = {
  name = "squad_v2",
  title = "SQuAD v2: a span of the passage, or unanswerable",
  system = "You are answering a question about a passage.\nCopy the shortest exact answer from the passage; "
    .. "if it is not there, answer unanswerable.\n"
    .. "Put your answer inside \\boxed{}, like this: \\boxed{Einstein}",
  user = with_context,
}

-- rajpurkar/squad_v2 is in this shape: { id, title, context, question, answers = { text, answer_start } }
squad.fields = { "title", "question", "context", "answer", "answers" }

-- a record's right answers: "" or an empty list is unanswerable
local function golds(record)
  local answer = record.answer
  if answer == nil or answer == core.json.null then answer = record.answers end
  if type(answer) == "string" then return answer ~= "" and { answer } or {} end
  if type(answer) == "table" then return type(answer.text) == "table" and answer.text or answer end
end

function squad.problem(record)
  local list = golds(record)
  if not list then return "answer must be text, \"\" where there is none, or a list of texts" end
  for _, text in ipairs(list) do
    if type(text) ~= "string" then return "answers must be texts" end
  end
  return text_field(record, "question") or text_field(record, "context")
end

function squad.gold(record) return golds(record)[1] or "" end

function squad.judge(record, inside)
  local list = golds(record)
  if not inside then return { correct = false, f1 = 0.0, has_answer = #list > 0 } end
  local said = answers.plain(inside)
  local normal = answers.normal(said)
  local abstains = normal == "unanswerable" or normal == "no answer"
  local judged = { answer = said, abstains = abstains, has_answer = #list > 0 }
  if #list == 0 then
    judged.correct = abstains
    judged.f1 = abstains and 1.0 or 0.0
    return judged
  end
  judged.correct, judged.f1 = false, 0.0
  for _, gold in ipairs(list) do
    local f1, exact = answers.overlap(said, gold)
    judged.correct = judged.correct or exact
    judged.f1 = math.max(judged.f1, f1)
  end
  return judged
end

function squad.metrics(samples)
  local has, no = { n = 0, em = 0, f1 = 0 }, { n = 0, right = 0 }
  local f1, available = 0, 0
  for _, s in ipairs(samples) do
    f1 = f1 + s.f1
    local answered = s.answer ~= nil and not s.abstains
    if s.answer ~= nil and answered == s.has_answer then available = available + 1 end
    if s.has_answer then
      has.n, has.em, has.f1 = has.n + 1, has.em + (s.correct and 1 or 0), has.f1 + s.f1
    else
      no.n, no.right = no.n + 1, no.right + (s.correct and 1 or 0)
    end
  end
  local n = #samples
  local function share(x, of) return of > 0 and x / of or nil end
  local exact = has.em + no.right
  return {
    em = share(exact, n), f1 = share(f1, n), avna = share(available, n),
    has_answer = { n = has.n, em = share(has.em, has.n), f1 = share(has.f1, has.n) },
    no_answer = { n = no.n, accuracy = share(no.right, no.n) },
  }
end

local openmath = {
  name = "openmath",
  title = "OpenMathInstruct-2: a number",
  system = "You are solving math problems.\nAnswer only with the final number inside \\boxed{}, "
    .. "like this: \\boxed{42}",
  user = with_context,
}

local function gold_number(record)
  local answer = record.answer
  if type(answer) == "number" then
    answer = math.type(answer) == "integer" and tostring(answer) or ("%.17g"):format(answer)
  end
  return type(answer) == "string" and answers.number(answer) or nil
end

openmath.fields = { "title", "question", "context", "answer", "problem", "expected_answer" }

-- nvidia/OpenMathInstruct-2: { problem, generated_solution, expected_answer, problem_source }
function openmath.from_hub(record)
  if type(record.problem) ~= "string" then return nil end
  local own = { question = record.problem, answer = record.expected_answer }
  if not gold_number(own) then return nil, "have an answer that is no number" end
  return own
end

function openmath.problem(record)
  return text_field(record, "question") or (not gold_number(record) and "answer must be a number") or nil
end

function openmath.gold(record) return record.answer end

function openmath.judge(record, inside)
  local given, gold = inside and answers.number(inside), gold_number(record)
  if not given then return { answer = inside, correct = false, parsed = false } end
  return {
    answer = inside, parsed = true, correct = answers.same_number(given, gold),
    difference = math.abs(given.value - gold.value),
  }
end

function openmath.metrics(samples)
  local parsed, difference = 0, 0
  for _, s in ipairs(samples) do
    if s.parsed then
      parsed = parsed + 1
      difference = difference + s.difference
    end
  end
  return {
    parsed = parsed, asked = #samples,
    mean_absolute_difference = parsed > 0 and difference / parsed or nil, -- over the parsed ones: never a ranking
  }
end

local tasks = { arc, boolq, squad, openmath }
for _, task in ipairs(tasks) do tasks[task.name] = task end

--- Names of the tasks, in their order.
tasks.names = {}
for i, task in ipairs(tasks) do tasks.names[i] = task.name end

--- The task of that name; a table is taken for a task of one's own.
-- @param level whose line an error names, as for error; 2 unless given
-- @error a string naming the known ones
function tasks.get(name, level)
  if type(name) == "table" and type(name.judge) == "function" then return name end
  for _, task in ipairs(tasks) do
    if task.name == name then return task end
  end
  local meant = type(name) == "string" and core.options.nearest(name, tasks.names)
  error(("there is no task %s%s"):format(tostring(name), meant and ("; did you mean %s?"):format(meant)
    or "; there are " .. table.concat(tasks.names, ", ")), level or 2)
end

local ENDINGS = { ".test.jsonl", ".jsonl", ".test.json", ".json", ".test.parquet", ".parquet" }

--- The files of a set in a folder: DIR/TASK.test.jsonl, or TASK.jsonl, or either as .json or .parquet; else those of
-- the folder DIR/TASK, as the Hub's data sets have them, of several splits test or validation.
-- @return string[]
-- @error io naming the first two, or a shard that is missing
function tasks.files(dir, name)
  for _, ending in ipairs(ENDINGS) do
    local path = ("%s/%s%s"):format(dir, name, ending)
    if core.files.kind(path) == "file" then return { path } end
  end
  local folder = ("%s/%s"):format(dir, name)
  if core.files.kind(folder) == "directory" then return sets.files(folder, { "test", "validation" }) end
  local shown = fingerprint.shown(dir)
  local why = ("there is no folder %s with question sets"):format(shown)
  if core.files.kind(dir) then
    why = ("no %s.test.jsonl or %s.jsonl in %s, nor .json or .parquet, nor a folder %s"):format(name, name, shown, name)
  end
  return options.fail { code = "io", op = "evaluate", path = dir,
                        message = why .. "; name the folder with --data, or data = in a script" }
end

-- Records of files in a row, and their numbers: those of lines, or where there are several files, of records in all.
local function read_files(files, check, fields)
  local list, numbers = {}, {}
  for _, path in ipairs(files) do
    local more, places = records.read(path, check, fields)
    for i, record in ipairs(more) do
      list[#list + 1] = record
      numbers[#list] = files[2] and #list or places[i]
    end
  end
  return list, numbers
end

--- A set's records in the task's own shape, each with its number beside it. Those that the task cannot ask are left
-- out, which happens to records of the Hub's shape alone.
-- @return table[], integer[], string or nil  what was left out
-- @error io, format with the file and the place
function tasks.read(dir, task)
  local files, shaped = tasks.files(dir, task.name), {}
  local given, numbers = read_files(files, function(record)
    local own, out = nil, nil
    if task.from_hub then own, out = task.from_hub(record) end
    shaped[record] = own or out or record
    return not out and task.problem(own or record) or nil
  end, task.fields)
  local list, places, out, why = {}, {}, 0, nil
  for i, record in ipairs(given) do
    local own = shaped[record]
    if type(own) == "string" then
      out, why = out + 1, own
    else
      list[#list + 1], places[#places + 1] = own, numbers[i]
    end
  end
  if out == 0 then return list, places end
  local left = ("%d of %d records of %s %s and are left out"):format(out, #given, task.name, why)
  if not list[1] then
    options.fail { code = "format", op = "evaluate", path = files[1],
                   message = fingerprint.shown(files[1]) .. ": " .. left }
  end
  return list, places, left
end

return tasks
