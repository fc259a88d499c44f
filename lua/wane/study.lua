--- The study: models from large to small, for each the baseline and then every method, evaluated and compared.
-- Out of memory goes on with the next smaller model, another failure with the next method. What is finished is kept
-- by the hash of all that it depends on, and is not run again by the same command. Nothing is deleted but the outputs
-- of failed cells, and these only when asked.
local core = require "wane.core"
local compare = require "wane.compare"
local evaluate = require "wane.evaluate"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"
local verdict = require "wane.verdict"

local json, files = core.json, core.files

local spec = {
  { name = "models", kind = "list", doc = "folders or hub ids, the largest first" },
  { name = "plans", kind = "list", default = {}, doc = "wane.awq { bits = 4 }, ...: what is done to each model" },
  { name = "calibration", kind = "table", doc = "of wane.calibration; methods that need no text do without" },
  { name = "tasks", kind = "list", default = { "arc", "boolq", "squad_v2", "openmath" }, doc = "question sets" },
  { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl" },
  { name = "trunc_eval", kind = "integer", default = 0, doc = "the first so many records of each set; 0 or less: all" },
  { name = "max_tokens", kind = "integer", default = 1000, least = 1, doc = "most generated tokens for an answer" },
  { name = "out", kind = "string", default = "runs/study", doc = "folder of the run" },
  { name = "delete_failed", kind = "boolean", default = false, doc = "delete the outputs of failed cells" },
  { name = "say", kind = "any", doc = "called with one line of text at each step" },
}

local study = { spec = spec }

local function base_name(model) return (model:gsub("/+$", ""):match("([^/]+)$")) end

--- The folder of a quantized model, as users know it: MODEL-base_METHOD_w4g64, and w8a8 where activations have 8 bits.
function study.folder(model, plan)
  if not plan then return base_name(model) end
  local grid = plan.activation_bits == 8 and "w8a8"
    or ("w%dg%s"):format(plan.bits, plan.group_size == -1 and "row" or plan.group_size)
  return ("%s-base_%s_%s"):format(base_name(model), plan.method, grid)
end

local function read_cell(path)
  if files.kind(path) ~= "file" then return nil end
  local ok, cell = pcall(function() return json.decode(files.read(path)) end)
  return ok and cell or nil -- a cell that cannot be read is run again
end

-- All that a cell's outcome depends on.
local function cell_key(o, dir_hash, plan)
  local sets = {}
  for i, name in ipairs(o.tasks) do
    for _, path in ipairs { ("%s/%s.test.jsonl"):format(o.data, name), ("%s/%s.jsonl"):format(o.data, name) } do
      if files.kind(path) == "file" then
        sets[i] = files.sha256_file(path)
        break
      end
    end
    sets[i] = name .. " " .. (sets[i] or "absent")
  end
  local parts = { core.version, dir_hash, plan and tostring(plan) or "none", table.concat(sets, ","),
                  tostring(o.trunc_eval), tostring(o.max_tokens),
                  plan and o.calibration and tostring(o.calibration.hash) .. tostring(o.calibration) or "" }
  return files.sha256(table.concat(parts, "\n"))
end

local function question(o, model, name)
  return evaluate(model, {
    tasks = o.tasks, data = o.data, trunc_eval = o.trunc_eval, max_tokens = o.max_tokens, name = name,
    samples = ("%s/samples/%s.jsonl"):format(o.out, name),
  })
end

local function run_baseline(o, source, name)
  local load = require "wane".load
  local model <close> = load(source)
  return question(o, model, name)
end

-- Quantizes into the run's models folder unless it is there already, then evaluates what was saved, as it was saved.
local function run_method(o, source, plan, name)
  local wane = require "wane"
  local dir = ("%s/models/%s"):format(o.out, name)
  if files.kind(dir) ~= "directory" then
    local model <close> = wane.load(source)
    local small <close> = wane.quantize(model, plan, o.calibration)
    small:save(dir)
  end
  collectgarbage()
  local small <close> = wane.load(dir)
  local result = question(o, small, name)
  result.layers = small.quantization.layers
  result.quantize_seconds = small.quantization.seconds
  return result
end

local function failed_cell(cell, err)
  local is_object = type(err) == "table"
  cell.status = is_object and err.code == "oom" and "oom" or "error"
  cell.error = is_object and err.message or tostring(err):match("[^\n]*")
  cell.code = is_object and err.code or nil
  cell.requested, cell.free = is_object and err.requested or nil, is_object and err.free or nil
end

local function succeeded_cell(cell, result)
  cell.status = "ok"
  cell.n, cell.correct, cell.accuracy, cell.interval = result.n, result.correct, result.accuracy, result.interval
  cell.format_compliance = result.format_compliance
  cell.bytes, cell.bits_per_weight = result.bytes, result.bits_per_weight
  cell.quantize_seconds, cell.evaluate_seconds = result.quantize_seconds, result.seconds
  cell.peak_bytes, cell.quantization = result.peak_bytes, result.quantization
end

-- One cell: from its file where it is finished, else run. Gives the cell and, where it is ok, its result.
local function run_cell(o, source, plan, dir_hash)
  local name = study.folder(source, plan)
  local path = ("%s/cells/%s.json"):format(o.out, name)
  local key = cell_key(o, dir_hash, plan)
  local kept = read_cell(path)
  if kept and kept.key == key and kept.cell.status == "ok" then
    o.say(("%s: finished before, kept"):format(name))
    return kept.cell, kept.result
  end
  local cell = { model = base_name(source), method = plan and plan.method or "none", name = name }
  o.say(("%s: %s"):format(name, plan and tostring(plan) or "baseline"))
  if plan and kept and kept.key ~= key then files.remove(("%s/models/%s"):format(o.out, name)) end
  local began = core.clock()
  local ok, result
  if plan then
    ok, result = pcall(run_method, o, source, plan, name)
  else
    ok, result = pcall(run_baseline, o, source, name)
  end
  if not ok and type(result) == "table" and result.code == "interrupted" then error(result, 0) end
  cell.seconds = core.clock() - began
  if ok then
    succeeded_cell(cell, result)
  else
    failed_cell(cell, result)
    result = nil
    if o.delete_failed then files.remove(("%s/models/%s"):format(o.out, name)) end
  end
  collectgarbage()
  o.say(("%s: %s, %.1f s"):format(name, ok and ("%d of %d right"):format(cell.correct, cell.n)
    or cell.status .. ": " .. cell.error, cell.seconds))
  files.write(path, json.encode({ key = key, cell = cell, result = result }, { indent = 1 }) .. "\n")
  return cell, result
end

local function skipped(source, plan, why)
  return { model = base_name(source), method = plan.method, name = study.folder(source, plan), status = "oom",
           error = "not tried: " .. why, seconds = 0.0 }
end

local function run_model(o, source, run)
  local ok, dir_hash = pcall(fingerprint.of_dir, source)
  if not ok then dir_hash = tostring(dir_hash) end -- the load that follows says what is wrong
  local cell, baseline = run_cell(o, source, nil, dir_hash)
  run.cells[#run.cells + 1] = cell
  if baseline then run.results[#run.results + 1] = baseline end
  for i, plan in ipairs(o.plans) do
    if cell.status == "oom" then
      for j = i, #o.plans do run.cells[#run.cells + 1] = skipped(source, o.plans[j], cell.name .. " did not fit") end
      return
    end
    local result
    cell, result = run_cell(o, source, plan, dir_hash)
    if result then
      run.results[#run.results + 1] = result
      if baseline then
        local c = compare(baseline, result)
        cell.delta, cell.delta_interval, cell.p = c.delta, c.interval, c.p
        cell.lost, cell.gained = c.lost, c.gained
      end
    end
    run.cells[#run.cells + 1] = cell
  end
end

--- Runs the study, or what of it is not finished, and writes status.md, status.json and report.html into its folder.
-- @param given options: models, plans, calibration, tasks, data, trunc_eval, max_tokens, out, delete_failed, say
-- @return run { cells, results, criteria, verdict, markdown }
-- @error io (the run's folder), interrupted (finished cells are kept; the same command goes on)
local function run_study(given)
  local o = options.check(spec, given or {}, "wane.study")
  if not o.models or #o.models == 0 then error("wane.study needs models, the largest first", 2) end
  o.say = o.say or function() end
  for _, sub in ipairs { "cells", "models", "samples" } do files.mkdir(o.out .. "/" .. sub) end
  local lock <close> = files.lock(o.out) -- luacheck: ignore 211
  local run = { cells = {}, results = {}, out = o.out }
  for _, source in ipairs(o.models) do run_model(o, source, run) end
  run.criteria, run.verdict = verdict.judge(run.cells)
  run.markdown = verdict.write(run, o)
  return run
end

return setmetatable(study, { __call = function(_, ...) return run_study(...) end })
