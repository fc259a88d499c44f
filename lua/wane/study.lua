--- The study: models from large to small, for each the baseline and then every method, evaluated and compared.
-- Out of memory goes on with the next smaller model, another failure with the next method. What is finished is kept
-- by the hash of all that it depends on, and is not run again by the same command. Nothing is deleted but the outputs
-- of failed cells, and these only when asked; an output that was made with other settings makes room for the new one.
local core = require "wane.core"
local compare = require "wane.compare"
local evaluate = require "wane.evaluate"
local fingerprint = require "wane.fingerprint"
local hub = require "wane.hub"
local ledger = require "wane.ledger"
local methods = require "wane.methods"
local options = require "wane.options"
local tasks = require "wane.tasks"
local verdict = require "wane.verdict"

local spec = {
  { name = "models", kind = "list", default = {}, doc = "folders or hub ids, the largest first" },
  { name = "plans", kind = "list", default = {}, doc = "wane.awq { bits = 4 }, ...: what is done to each model" },
  { name = "calibration", kind = "table", doc = "of wane.calibration; methods that need no text do without" },
  { name = "tasks", kind = "list", default = tasks.names, doc = "question sets" },
  { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl, .json or .parquet" },
  { name = "trunc_eval", kind = "integer", default = 0, doc = "the first so many records of each set; 0 or less: all" },
  { name = "max_tokens", kind = "integer", default = 1000, least = 1, doc = "most generated tokens for an answer" },
  { name = "out", kind = "string", default = "runs/study", doc = "folder of the run" },
  { name = "delete_failed", kind = "boolean", default = false, doc = "delete the outputs of failed cells" },
  { name = "say", kind = "function", doc = "called with one line of text at each step" },
  { name = "bar", kind = "function", doc = "wane.progress.bar, or what makes such a function of a label" },
}

local study = { spec = spec }

local function base_name(dir) return fingerprint.name { dir = dir } end

--- The folder of a quantized model, as users know it: MODEL-base_METHOD_w4g64, and w8a8 where activations have 8 bits.
function study.folder(model, plan)
  if not plan then return base_name(model) end
  local grid = plan.activation_bits == 8 and "w8a8"
    or ("w%dg%s"):format(plan.bits, plan.group_size == -1 and "row" or plan.group_size)
  return ("%s-base_%s_%s"):format(base_name(model), plan.method, grid)
end

local function question(o, model, name)
  return evaluate(model, {
    tasks = o.tasks, data = o.data, trunc_eval = o.trunc_eval, max_tokens = o.max_tokens, name = name,
    calibration = o.calibration, samples = o.ledger:samples_file(name), progress = o.bar(name),
  })
end

local function run_baseline(o, cell)
  local model <close> = require "wane".load(cell.source)
  return question(o, model, cell.name)
end

-- Quantizes into the run's folder unless it is there already, then evaluates what was saved, as it was saved.
local function run_method(o, cell)
  local wane = require "wane"
  local dir = o.ledger:model_dir(cell.name)
  if not o.ledger:has_model(cell.name, cell.making_key) then
    local model <close> = wane.load(cell.source)
    local small <close> = wane.quantize(model, cell.plan, o.calibration, { progress = o.bar(cell.name) })
    small.quantization.made = cell.making_key
    small:save(dir)
  end
  collectgarbage() -- what it took is free for the evaluation
  local small <close> = wane.load(dir)
  local result = question(o, small, cell.name)
  local q = small.quantization
  result.quantize_seconds, result.quantize_peak_bytes, result.proof = q.seconds, q.peak_bytes, q.proof
  for _, list in ipairs { q.warnings or {}, q.proof and q.proof.notes or {} } do
    table.move(list, 1, #list, #result.warnings + 1, result.warnings)
  end
  return result
end

local function failed(cell, err)
  local is_object = getmetatable(err) == core.error
  cell.status = is_object and err.code == "oom" and "oom" or "error"
  cell.error = is_object and err.message or tostring(err):match("[^\n]*")
  cell.traceback = not is_object and tostring(err) or nil -- a bug, which somebody will want to find
  if is_object then cell.code, cell.requested, cell.free = err.code, err.requested, err.free end
end

-- what the outcome has of the result, and nothing else
local KEPT = { "n", "correct", "accuracy", "interval", "format_compliance", "flags", "bytes", "bits_per_weight",
               "peak_bytes", "quantization", "quantize_seconds", "quantize_peak_bytes", "warnings" }

local function succeeded(cell, result)
  cell.status = "ok"
  for _, field in ipairs(KEPT) do cell[field] = result[field] end
  cell.evaluate_seconds = result.seconds
  local proof = result.proof
  if proof then
    cell.divergence, cell.perplexity, cell.source_perplexity = proof.divergence, proof.perplexity,
      proof.source_perplexity
  end
end

local function outcome_of(cell)
  return { model = base_name(cell.source), method = cell.plan and cell.plan.method or "none", name = cell.name }
end

local STOPS = { interrupted = true, device = true } -- a device that failed does nothing more in this process

-- Runs one cell. Gives its outcome and, where it is ok, its result.
local function run_cell(o, cell, key)
  local outcome = outcome_of(cell)
  o.say(("%s: %s"):format(cell.name, cell.plan and tostring(cell.plan) or "baseline"))
  local began = core.clock()
  local ok, result = xpcall(cell.plan and run_method or run_baseline, core.traceback, o, cell)
  -- neither is the cell's: what is finished is kept, and the same command goes on from there
  if not ok and getmetatable(result) == core.error and STOPS[result.code] then error(result, 0) end
  outcome.seconds = core.clock() - began
  if ok then
    succeeded(outcome, result)
  else
    failed(outcome, result)
    result = nil
    if o.delete_failed and cell.plan then o.ledger:remove_model(cell.name) end
  end
  collectgarbage()
  o.say(("%s: %s, %.1f s"):format(cell.name, ok and ("%d of %d right"):format(outcome.correct, outcome.n)
    or outcome.status .. ": " .. outcome.error, outcome.seconds))
  o.ledger:write(cell.name, key, outcome, result)
  return outcome, result
end

-- One cell: from the ledger where it is finished, else run.
local function get_cell(o, cell)
  if cell.plan then cell.making_key = ledger.making_key(cell.source_hash, cell.plan, o.calibration) end
  local key = ledger.cell_key(cell.making_key or cell.source_hash, o)
  local outcome, result = o.ledger:read(cell.name, key)
  if not outcome then return run_cell(o, cell, key) end
  o.say(("%s: finished before (%s)"):format(cell.name, outcome.status))
  return outcome, result
end

local function note(run, outcome, result, baseline)
  run.cells[#run.cells + 1] = outcome
  if not result then return end
  run.results[#run.results + 1] = result
  result.group, result.short = outcome.model, outcome.method == "none" and "baseline" or outcome.method
  if not baseline or baseline == result then return end
  local c = compare(baseline, result)
  run.compared[result] = c
  outcome.delta, outcome.delta_interval, outcome.p = c.delta, c.interval, c.p
  outcome.lost, outcome.gained = c.lost, c.gained
end

local function skip(run, cell, why)
  local outcome = outcome_of(cell)
  outcome.status, outcome.skipped, outcome.error, outcome.seconds = "oom", true, "not tried: " .. why, 0.0
  run.cells[#run.cells + 1] = outcome
end

-- A model and all that is made of it. Once something does not fit, the rest is not tried.
local function run_model(o, source, run)
  local found, folder = pcall(hub.folder, source)
  local dir = found and folder or source
  local ok, source_hash = pcall(fingerprint.of_dir, dir)
  if not ok then source_hash = tostring(source_hash) end -- the load that follows says what is wrong
  local outcome, baseline = get_cell(o, { source = dir, name = study.folder(source), source_hash = source_hash })
  note(run, outcome, baseline)
  local short = outcome.status == "oom" and outcome.name
  for _, plan in ipairs(o.plans) do
    local cell = { source = dir, plan = plan, name = study.folder(source, plan), source_hash = source_hash }
    if short then
      skip(run, cell, short .. " did not fit")
    else
      local result
      outcome, result = get_cell(o, cell)
      note(run, outcome, result, baseline)
      short = outcome.status == "oom" and outcome.name
    end
  end
end

-- Two cells of one name would take each other's place.
local function check_names(o, level)
  local seen = {}
  for _, source in ipairs(o.models) do
    if type(source) ~= "string" then error("wane.study: models are folders, not a " .. type(source), level + 1) end
    for i = 0, #o.plans do
      local name = study.folder(source, o.plans[i])
      if seen[name] then
        error(("wane.study: two cells are called %s; name their folders apart, or run two studies"):format(name),
          level + 1)
      end
      seen[name] = true
    end
  end
end

local function check(o, level)
  if not o.models[1] then error("wane.study needs models, the largest first", level + 1) end
  for i, plan in ipairs(o.plans) do
    if not methods.is_plan(plan) then
      error(("wane.study: plan %d is none; write wane.gptq { bits = 4 }"):format(i), level + 1)
    end
    if methods[plan.method].needs_text and not o.calibration then
      error(("wane.study: %s needs a calibration"):format(plan.method), level + 1)
    end
  end
  for _, name in ipairs(o.tasks) do tasks.files(o.data, tasks.get(name, level + 2).name) end
  check_names(o, level + 1)
end

--- Runs the study, or what of it is not finished, and writes status.md, status.json and report.html into its folder.
-- @param given options: models, plans, calibration, tasks, data, trunc_eval, max_tokens, out, delete_failed, say, bar
-- @return run { cells, results, compared, criteria, verdict, markdown, out }
-- @error io (the run's folder, the sets), interrupted (finished cells are kept; the same command goes on)
local function run_study(given)
  local o = options.check(spec, given or {}, "wane.study")
  check(o, 2)
  o.say, o.bar = o.say or function() end, o.bar or function() end
  local book <close> = ledger.open(o.out)
  o.ledger = book
  local run = { cells = {}, results = {}, compared = {}, out = o.out }
  for _, source in ipairs(o.models) do run_model(o, source, run) end
  run.criteria, run.verdict = verdict.judge(run.cells)
  run.markdown = verdict.write(run)
  return run
end

return setmetatable(study, { __call = function(_, ...) return run_study(...) end })
