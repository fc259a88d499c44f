--- Asking a model the questions of the sets, and keeping every answer.
-- A result stands for exactly what was run: its key is a hash of the weights, the questions, the prompts and the
-- settings. Generated ids are counted, never the text tokenized again. What a broken file has to say it says before
-- the first question is asked; what is answered is on disk set by set, and asking again goes on from there.
local core = require "wane.core"
local answers = require "wane.answers"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"
local statistics = require "wane.statistics"
local tasks = require "wane.tasks"

local spec = {
  { name = "tasks", kind = "list", default = tasks.names, doc = "question sets" },
  { name = "data", kind = "string", default = "examples/data",
    doc = "folder with TASK.test.jsonl, .json or .parquet, or TASK/" },
  { name = "trunc_eval", kind = "integer", default = 0, doc = "the first so many records of each set; 0 or less: all" },
  { name = "max_tokens", kind = "integer", default = 1000, least = 1, doc = "most generated tokens for an answer" },
  { name = "batch", kind = "integer", default = 0, least = 0, doc = "answers at once; 0: as many as fit" },
  { name = "thinking", kind = "boolean", default = false, doc = "let the chat template open a thinking part" },
  { name = "system", kind = "table", default = {}, doc = "system prompts by task, instead of the sets' own" },
  { name = "samples", kind = "string",
    doc = "file for one JSON line per question; answers it has to the same questions are not asked for again" },
  { name = "calibration", kind = "table", doc = "of wane.calibration: questions that it has too are counted" },
  { name = "name", kind = "string", doc = "what the result calls the model; its folder's name otherwise" },
  { name = "progress", kind = "function", doc = "called with (done, of, task) before each set and after the last" },
}

local LOOP = 256 -- tokens that repeat a short period before an answer is cut as a loop
local PLENTY = 100 -- fewer questions than this cannot tell methods apart: the interval is wider than 20 points
local OFTEN = 0.05 -- share of answers with a flag from which on it is worth a warning

local function hash(...) return core.files.sha256(table.concat({ ... }, "\0")) end

-- Questions of one task: { task, record, id, key, line, user, prompt, prompt_ids }
local function questions(run, task)
  local o, tokenizer = run.o, run.model.tokenizer
  local list, lines, left = tasks.read(o.data, task)
  run.left[#run.left + 1] = left
  local asked = {}
  for i = 1, o.trunc_eval > 0 and math.min(o.trunc_eval, #list) or #list do
    local record = list[i]
    local user = task.user(record)
    local messages = { { role = "system", content = o.system[task.name] or task.system },
                       { role = "user", content = user } }
    local ids, prompt, told = tokenizer:prompt(messages,
      { add_generation_prompt = true, enable_thinking = o.thinking })
    run.folded = run.folded or told and told.folded
    asked[i] = {
      task = task, record = record, line = lines[i], user = user, prompt = prompt, prompt_ids = ids,
      id = hash(task.name, user, tostring(task.gold(record))):sub(1, 16),
      key = hash(core.version, run.weights, o.max_tokens, prompt):sub(1, 32),
    }
  end
  return asked
end

-- Answers of an earlier run by their keys; a line that is damaged is asked again.
local function kept_answers(path)
  local kept = {}
  if not path or core.files.kind(path) ~= "file" then return kept end
  for line in core.files.read(path):gmatch("[^\n]+") do
    local ok, sample = pcall(core.json.decode, line)
    if ok and type(sample) == "table" and type(sample.text) == "string" and type(sample.ids) == "table"
      and type(sample.milliseconds) == "number" and type(sample.finish) == "string" then
      kept[sample.key or ""] = { text = sample.text, ids = sample.ids, tokens = #sample.ids, finish = sample.finish,
                                 seconds = sample.milliseconds / 1000, line = line }
    end
  end
  return kept
end

-- One question and what was generated -> one sample.
local function judge(question, out)
  local inside = answers.boxed(out.text)
  local sample = question.task.judge(question.record, inside)
  sample.task, sample.id, sample.key, sample.line = question.task.name, question.id, question.key, question.line
  sample.gold = question.task.gold(question.record)
  sample.prompt, sample.text, sample.ids = question.prompt, out.text, out.ids
  sample.extracted, sample.formatted = inside, inside ~= nil
  sample.tokens, sample.finish = out.tokens, out.finish
  sample.milliseconds = out.seconds * 1000
  if out.finish == "prompt too long" or out.finish == "loop" or out.finish == "nan" then sample.flag = out.finish
  elseif not out.text:find("%S") then sample.flag = "empty"
  elseif not inside then sample.flag = out.finish == "length" and "too long" or "no box" end
  sample.verdict = sample.correct and "right" or sample.flag or "wrong"
  return sample
end

-- The figures that every set and the whole have.
local function summarize(samples)
  local correct, formatted, milliseconds, tokens, flags = 0, 0, {}, {}, {}
  for i, s in ipairs(samples) do
    correct = correct + (s.correct and 1 or 0)
    formatted = formatted + (s.formatted and 1 or 0)
    milliseconds[i], tokens[i] = s.milliseconds, s.tokens
    if s.flag then flags[s.flag] = (flags[s.flag] or 0) + 1 end
  end
  local n = #samples
  return {
    n = n, correct = correct, accuracy = correct / n, format_compliance = formatted / n,
    interval = statistics.wilson(correct, n), latency = statistics.summary(milliseconds),
    tokens = statistics.summary(tokens), flags = flags,
  }
end

local FLAGS = { "empty", "loop", "nan", "too long", "no box", "prompt too long" }

local function warnings(result)
  local list = {}
  if result.n < PLENTY then
    list[1] = ("n = %d is too small to tell: %d right is anything from %.0f %% to %.0f %% (95 %%)"):format(
      result.n, result.correct, 100 * result.interval[1], 100 * result.interval[2])
  end
  for _, flag in ipairs(FLAGS) do
    local count = result.flags[flag] or 0
    if count > OFTEN * result.n then
      list[#list + 1] = ("%d of %d answers flagged: %s"):format(count, result.n, flag)
    end
  end
  if (result.overlap or 0) > 0 then
    list[#list + 1] = ("%d of %d questions are in the calibration set too, which flatters"):format(result.overlap,
      result.n)
  end
  return list
end

-- the keys of a line that are always there, null where a sample has none
local ALWAYS = { "extracted", "answer", "gold" }

local function line_of(sample)
  local line = {}
  for key, value in pairs(sample) do line[key] = value end
  line.ids = core.json.array(sample.ids)
  for _, key in ipairs(ALWAYS) do
    if line[key] == nil then line[key] = core.json.null end
  end
  return core.json.encode(line)
end

-- The samples so far, and until all are there the kept lines that their sets have not come to yet.
local function write_samples(run, samples, whole)
  local lines, written = {}, {}
  for i, s in ipairs(samples) do lines[i], written[s.key] = line_of(s), true end
  for key, kept in pairs(whole and {} or run.kept) do
    if not written[key] then lines[#lines + 1] = kept.line end
  end
  core.files.write(run.o.samples, table.concat(lines, "\n") .. "\n")
end

-- A model that computes NaN has nothing to say to any question; this is found with one token.
local function smoke(run, prompt)
  local out = run.model:generate({ prompt }, { max_tokens = 1 })[1]
  if out.finish == "nan" then
    options.fail { code = "numeric", op = "evaluate", path = run.model.dir,
                   message = ("%s computes NaN: nothing it would say could be scored; quantize it again, or look at "
                     .. "what it was made from"):format(fingerprint.shown(run.model.dir)) }
  end
end

-- Answers to the questions of one set, in their order: kept ones, and the others asked for together.
local function ask(run, asked)
  local model, o = run.model, run.o
  local most = math.tointeger(model.config.max_position_embeddings) or math.maxinteger
  local out, prompts, places = {}, {}, {}
  for i, q in ipairs(asked) do
    out[i] = run.kept[q.key]
    if out[i] then
      run.reused = run.reused + 1
    elseif #q.prompt_ids > most then
      out[i] = { text = "", ids = {}, tokens = 0, seconds = 0.0, finish = "prompt too long" }
    else
      prompts[#prompts + 1], places[#places + 1] = q.prompt_ids, i
    end
  end
  if not prompts[1] then return out end
  if not run.smoked then smoke(run, prompts[1]) end
  run.smoked = true
  local given = { max_tokens = o.max_tokens, stop_at_box = true, loop = LOOP, batch = o.batch }
  for j, answer in ipairs(model:generate(prompts, given)) do out[places[j]] = answer end
  return out
end

-- One set: its samples, and its figures with its own metrics.
local function one_set(run, asked)
  core.device.reset_peak()
  local own = {}
  local began = core.clock()
  local out = ask(run, asked)
  for j, q in ipairs(asked) do own[j] = judge(q, out[j]) end
  local figures = summarize(own)
  for key, value in pairs(asked[1].task.metrics(own)) do figures[key] = value end
  figures.seconds, figures.peak_bytes = core.clock() - began, core.device.info().peak
  return own, figures
end

local function overlap(calibration, sets)
  local users = {}
  for _, asked in ipairs(sets) do
    for _, q in ipairs(asked) do users[#users + 1] = q.user end
  end
  return #calibration:overlap(users)
end

-- The key of a result: of its questions with their right answers, and of weights, prompts and settings.
local function key_of(samples)
  local parts = {}
  for i, s in ipairs(samples) do parts[i] = tostring(s.id) .. tostring(s.key) end
  return hash(core.version, table.concat(parts, ","))
end

-- what the result says of the model and the machine
local function describe(run, result, sets)
  local o, model, info = run.o, run.model, core.device.info()
  result.hardware = { device = info.description, threads = info.threads, memory = info.total }
  result.reused = run.reused
  result.settings = { trunc_eval = o.trunc_eval, max_tokens = o.max_tokens, thinking = o.thinking,
                      data = fingerprint.shown(o.data) }
  result.weights, result.key = run.weights, key_of(result.samples)
  result.bytes, result.bits_per_weight = fingerprint.size(model)
  local q = model.quantization
  result.quantization = q and fingerprint.label(model) or nil
  result.layers = q and q.layers and q.layers[1] and q.layers or nil
  if o.calibration then result.overlap = overlap(o.calibration, sets) end
  local list = warnings(result)
  if run.folded then
    list[#list + 1] = "the chat template refuses a system message: its words stand at the start of the question"
  end
  result.warnings = table.move(run.left, 1, #run.left, #list + 1, list)
end

--- Asks a model the questions; greedy, one answer each, ended by the model, the closed box or max_tokens.
-- @param model a model with a tokenizer and a chat template
-- @param given options: tasks, data, trunc_eval, max_tokens, batch, thinking, system, samples, calibration, name,
--   progress
-- @return result { n, correct, accuracy, format_compliance, interval, latency (ms, as it was within its batch),
--   tokens, flags, tasks, samples, key, weights, warnings, ... }
-- @error format (a record), io, oom, numeric (NaN), interrupted
local function evaluate(model, given)
  local o = options.check(spec, given or {}, "wane.evaluate")
  options.check_model(model, "wane.evaluate")
  local chosen, sets = {}, {}
  for i, name in ipairs(o.tasks) do chosen[i] = tasks.get(name, 3) end
  if not chosen[1] then error("wane.evaluate: tasks is empty", 2) end
  if o.samples then require "wane.paths".check_writable(o.samples) end
  local run = { model = model, o = o, weights = fingerprint.of(model), kept = kept_answers(o.samples), reused = 0,
                left = {} }
  for i, task in ipairs(chosen) do sets[i] = questions(run, task) end
  local result = { name = o.name or fingerprint.name(model), time = os.date("!%Y-%m-%dT%H:%M:%SZ"), tasks = {},
                   order = {}, peak_bytes = 0 }
  local samples, began = {}, core.clock()
  for i, task in ipairs(chosen) do
    if o.progress then o.progress(i - 1, #chosen, task.name) end
    local own, figures = one_set(run, sets[i])
    table.move(own, 1, #own, #samples + 1, samples)
    result.tasks[task.name], result.order[i] = figures, task.name
    result.peak_bytes = math.max(result.peak_bytes, figures.peak_bytes)
    if o.samples then write_samples(run, samples, i == #chosen) end
  end
  if o.progress then o.progress(#chosen, #chosen, "") end
  for key, value in pairs(summarize(samples)) do result[key] = value end
  result.samples, result.seconds = samples, core.clock() - began
  describe(run, result, sets)
  return result
end

return setmetatable({ spec = spec, key_of = key_of },
  { __call = function(_, ...) return evaluate(...) end })
