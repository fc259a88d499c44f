--- A result of wane.evaluate as the JSON report that its users know, and such a report as a result again.
-- The report: model, time, summary (data sets, samples, correct, accuracy, latency, tokens, quantization, peak
-- memory), a block for each set, quantization, hardware, and every sample.
local core = require "wane.core"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"

local results = {}

--- A result as a report, ready for JSON.
-- @param result of wane.evaluate
-- @return table
function results.page(result)
  return {
    model = result.name, time = result.time, key = result.key, weights = result.weights,
    summary = {
      data_sets = core.json.array(result.order), samples = result.n, correct = result.correct,
      accuracy = result.accuracy, interval = result.interval, format_compliance = result.format_compliance,
      latency = result.latency, tokens = result.tokens, peak_memory = result.peak_bytes, flags = result.flags,
      seconds = result.seconds, reused = result.reused,
      quantization = result.quantization and result.quantization.label or "none",
      warnings = core.json.array(result.warnings),
    },
    data_sets = result.tasks, quantization = result.quantization, layers = result.layers, bytes = result.bytes,
    bits_per_weight = result.bits_per_weight, settings = result.settings,
    hardware = result.hardware,
    samples = core.json.array(result.samples),
  }
end

local function refuse(path, why)
  options.fail { code = "format", op = "results", path = path,
                 message = ("%s is no report of wane eval: %s; write one with wane eval DIR --out FILE"):format(
                   fingerprint.shown(path), why) }
end

-- What must be there, and of which type, for the tables and charts.
local SHAPE = {
  { "model", "string" }, { "summary", "table" }, { "data_sets", "table" }, { "samples", "table" },
}
local SUMMARY = {
  { "data_sets", "table" }, { "samples", "number" }, { "correct", "number" }, { "accuracy", "number" },
  { "interval", "table" }, { "format_compliance", "number" }, { "latency", "table" }, { "tokens", "table" },
}
local SET = { { "n", "number" }, { "correct", "number" }, { "accuracy", "number" }, { "interval", "table" },
              { "format_compliance", "number" } }
local SAMPLE = { { "task", "string" }, { "id", "string" }, { "line", "number" }, { "correct", "boolean" } }

local function check(path, where, value, shape)
  if type(value) ~= "table" then refuse(path, where .. " is missing") end
  for _, field in ipairs(shape) do
    if type(value[field[1]]) ~= field[2] then refuse(path, ("%s has no %s"):format(where, field[1])) end
  end
end

local function is_interval(pair) return type(pair[1]) == "number" and type(pair[2]) == "number" end

-- null in JSON is what is not there in Lua
local function without_nulls(value)
  for key, item in pairs(value) do
    if item == core.json.null then value[key] = nil
    elseif type(item) == "table" then without_nulls(item) end
  end
  return value
end

local function check_page(path, page)
  check(path, "it", page, SHAPE)
  check(path, "summary", page.summary, SUMMARY)
  if not is_interval(page.summary.interval) then refuse(path, "summary has no interval") end
  for _, name in ipairs(page.summary.data_sets) do
    check(path, "data_sets." .. tostring(name), page.data_sets[name], SET)
    if not is_interval(page.data_sets[name].interval) then
      refuse(path, ("data_sets.%s has no interval"):format(name))
    end
  end
  for i, sample in ipairs(page.samples) do check(path, ("sample %d"):format(i), sample, SAMPLE) end
end

--- Reads a report as a result, with what wane.compare and wane.report need.
-- @param path string
-- @return result
-- @error io, format
function results.read(path)
  local page = core.json.load(path)
  if type(page) ~= "table" then refuse(path, "it is not an object") end
  without_nulls(page)
  check_page(path, page)
  local s = page.summary
  return {
    name = page.model, time = page.time, key = page.key, weights = page.weights,
    hardware = type(page.hardware) == "table" and page.hardware or nil, n = s.samples,
    correct = s.correct, accuracy = s.accuracy, interval = s.interval, format_compliance = s.format_compliance,
    latency = s.latency, tokens = s.tokens, peak_bytes = s.peak_memory, seconds = s.seconds, warnings = s.warnings,
    flags = s.flags, order = s.data_sets, tasks = page.data_sets, samples = page.samples,
    quantization = page.quantization, layers = page.layers, bytes = page.bytes, bits_per_weight = page.bits_per_weight,
    settings = page.settings,
  }
end

return results
