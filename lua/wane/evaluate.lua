--- Asking a model the questions of the sets, and keeping every answer.
-- A result stands for exactly what was run: its key is a hash of the weights, the questions, the prompts and the
-- settings. Generated ids are counted, never the text tokenized again.
local core = require "wane.core"
local answers = require "wane.answers"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"
local records = require "wane.records"
local statistics = require "wane.statistics"
local tasks = require "wane.tasks"

local spec = {
  { name = "tasks", kind = "list", default = { "arc", "boolq", "squad_v2", "openmath" }, doc = "question sets" },
  { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl" },
  { name = "trunc_eval", kind = "integer", default = 0, doc = "the first so many records of each set; 0 or less: all" },
  { name = "max_tokens", kind = "integer", default = 1000, least = 1, doc = "most generated tokens for an answer" },
  { name = "batch", kind = "integer", default = 0, least = 0, doc = "answers at once; 0: as many as fit" },
  { name = "thinking", kind = "boolean", default = false, doc = "let the chat template open a thinking part" },
  { name = "system", kind = "table", default = {}, doc = "system prompts by task, instead of the sets' own" },
  { name = "samples", kind = "string", doc = "file for one JSON line per question" },
  { name = "name", kind = "string", doc = "what the result calls the model; its folder's name otherwise" },
  { name = "progress", kind = "any", doc = "called with (done, of, task) after each set" },
}

local LOOP = 256 -- tokens that repeat a short period before an answer is cut as a loop
local PLENTY = 100 -- fewer questions than this cannot tell methods apart: the interval is wider than 20 points

-- the first of DIR/TASK.test.jsonl and DIR/TASK.jsonl that is there
local function find_set(dir, name)
  for _, path in ipairs { ("%s/%s.test.jsonl"):format(dir, name), ("%s/%s.jsonl"):format(dir, name) } do
    if core.files.kind(path) == "file" then return path end
  end
  error(setmetatable({
    code = "io", op = "evaluate", path = dir,
    message = ("no %s.test.jsonl or %s.jsonl in %s; name the folder with data ="):format(name, name, dir),
  }, core.error), 0)
end

-- Questions of one task: { task, record, id, line, prompt, prompt_ids }
local function questions(task, o, model)
  local path = find_set(o.data, task.name)
  local list, lines = records.read(path, task.problem)
  local count = o.trunc_eval > 0 and math.min(o.trunc_eval, #list) or #list
  local asked = {}
  for i = 1, count do
    local record = list[i]
    local user = task.user(record)
    local messages = { { role = "system", content = o.system[task.name] or task.system },
                       { role = "user", content = user } }
    local ids, prompt = model.tokenizer:prompt(messages,
      { add_generation_prompt = true, enable_thinking = o.thinking })
    asked[i] = {
      task = task, record = record, line = lines[i], prompt = prompt, prompt_ids = ids,
      id = core.files.sha256(task.name .. "\0" .. user .. "\0" .. tostring(task.gold(record))):sub(1, 16),
    }
  end
  return asked
end

-- One question and what was generated -> one sample.
local function judge(question, out)
  local inside = answers.boxed(out.text)
  local sample = question.task.judge(question.record, inside)
  sample.task, sample.id, sample.line = question.task.name, question.id, question.line
  sample.gold = question.task.gold(question.record)
  sample.prompt, sample.text, sample.ids = question.prompt, out.text, out.ids
  sample.boxed, sample.formatted = inside, inside ~= nil
  sample.tokens, sample.finish = out.tokens, out.finish
  sample.milliseconds = out.seconds * 1000
  if not out.text:find("%S") then sample.flag = "empty"
  elseif out.finish == "loop" or out.finish == "nan" then sample.flag = out.finish
  elseif not inside and out.finish == "length" then sample.flag = "too long"
  elseif not inside then sample.flag = "no box" end
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

local function warnings(result)
  local list = {}
  if result.n < PLENTY then
    list[1] = ("n = %d is too small to tell: %d right is anything from %.0f %% to %.0f %% (95 %%)"):format(
      result.n, result.correct, 100 * result.interval[1], 100 * result.interval[2])
  end
  for _, flag in ipairs { "empty", "loop", "nan", "too long" } do
    local count = result.flags[flag] or 0
    if count > 0.05 * result.n then
      list[#list + 1] = ("%d of %d answers flagged: %s"):format(count, result.n, flag)
    end
  end
  return list
end

local function write_samples(path, samples)
  local lines = {}
  for i, s in ipairs(samples) do lines[i] = core.json.encode(s) end
  core.files.write(path, table.concat(lines, "\n") .. "\n")
end

--- Asks a model the questions; greedy, one answer each, ended by the model, the closed box or max_tokens.
-- @param model a model with a tokenizer and a chat template
-- @param given options: tasks, data, trunc_eval, max_tokens, batch, system, samples, name, progress
-- @return result { n, correct, accuracy, format_compliance, interval, latency (ms), tokens, tasks, samples, key, ... }
-- @error format (a record), io, oom, interrupted
local function evaluate(model, given)
  local o = options.check(spec, given or {}, "wane.evaluate")
  local result = { name = o.name or fingerprint.name(model), tasks = {}, time = os.date("!%Y-%m-%dT%H:%M:%SZ") }
  local samples, ids = {}, {}
  core.device.reset_peak()
  local began = core.clock()
  local order = {}
  for i, name in ipairs(o.tasks) do
    local task = tasks.get(name)
    order[i] = task.name
    local asked = questions(task, o, model)
    local prompts = {}
    for j, q in ipairs(asked) do prompts[j] = q.prompt_ids end
    local out = model:generate(prompts, {
      max_tokens = o.max_tokens, stop_at_box = true, loop = LOOP, batch = o.batch,
    })
    local own = {}
    for j, q in ipairs(asked) do
      own[j] = judge(q, out[j])
      samples[#samples + 1] = own[j]
      ids[#ids + 1] = q.id .. core.files.sha256(q.prompt):sub(1, 16)
    end
    local figures = summarize(own)
    for key, value in pairs(task.metrics(own)) do figures[key] = value end
    result.tasks[task.name] = figures
    if o.progress then o.progress(i, #o.tasks, task.name) end
  end
  for key, value in pairs(summarize(samples)) do result[key] = value end
  result.order, result.samples, result.warnings = order, samples, warnings(result)
  result.seconds = core.clock() - began
  local info = core.device.info()
  result.peak_bytes, result.device = info.peak, info.description
  result.settings = { trunc_eval = o.trunc_eval, max_tokens = o.max_tokens, thinking = o.thinking, data = o.data }
  result.weights = fingerprint.of(model)
  result.bytes, result.bits_per_weight = fingerprint.size(model)
  result.quantization = model.quantization and fingerprint.label(model) or nil
  result.key = core.files.sha256(table.concat({ result.weights, core.json.encode(result.settings),
                                                table.concat(ids, ",") }, "\n"))
  if o.samples then write_samples(o.samples, samples) end
  return result
end

return setmetatable({ spec = spec, summarize = summarize },
  { __call = function(_, ...) return evaluate(...) end })
