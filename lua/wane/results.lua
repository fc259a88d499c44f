--- A result of wane.evaluate as the JSON report that its users know, and such a report as a result again.
-- The report: model, time, summary (data sets, samples, correct, accuracy, latency, tokens, quantization, peak
-- memory), a block for each set, quantization, hardware, and every sample.
local core = require "wane.core"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"
local shape = require "wane.shape"

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
                   fingerprint.shown(path), fingerprint.shown(why)) }
end

-- What the tables and charts take for granted; the figures that only some sets have may be absent.
local FIGURES <const> = { mean = "number?", median = "number?", p95 = "number?" }
local SET <const> = {
  n = "count", correct = "count", accuracy = "share", interval = "interval", format_compliance = "share",
  macro_f1 = "number?", f1 = "number?", balanced_accuracy = "number?", mcc = "number?", em = "number?",
  avna = "number?", mean_absolute_difference = "number?", tp = "count?", tn = "count?", fp = "count?", fn = "count?",
  parsed = "count?", asked = "count?", has_answer = { em = "number?", f1 = "number?", maybe = true },
  no_answer = { accuracy = "number?", maybe = true },
}
local PAGE <const> = {
  model = "text", time = "text?", key = "text?", weights = "text?", bytes = "count?", bits_per_weight = "number?",
  summary = {
    data_sets = { list = "text" }, samples = "count", correct = "count", accuracy = "share", interval = "interval",
    format_compliance = "share", latency = FIGURES, tokens = FIGURES, peak_memory = "count?", seconds = "number?",
    reused = "count?", flags = { map = "count", maybe = true }, warnings = { list = "text", maybe = true },
  },
  data_sets = { map = SET },
  quantization = { label = "text", maybe = true },
  layers = { maybe = true, list = { name = "text", error = "number?", rtn_error = "number?", damp = "number?",
                                    fallback = "text?", seconds = "number?" } },
  hardware = { device = "text?", maybe = true },
  samples = { list = { task = "text", id = "text", line = "whole", correct = "truth", extracted = "text?" } },
}

local function check_page(path, page)
  local problem = shape.wrong(page, PAGE)
  if problem then refuse(path, problem) end
  for _, name in ipairs(page.summary.data_sets) do
    if not page.data_sets[name] then refuse(path, ("data_sets has no %s"):format(fingerprint.shown(name))) end
  end
end

--- Reads a report as a result, with what wane.compare and wane.report need.
-- @param path string
-- @return result
-- @error io, format
function results.read(path)
  local page = core.json.load(path)
  if type(page) ~= "table" then refuse(path, "it is not an object") end
  check_page(path, shape.without_nulls(page, core.json.null))
  local s = page.summary
  return {
    name = page.model, time = page.time, key = page.key, weights = page.weights,
    hardware = page.hardware, n = s.samples,
    correct = s.correct, accuracy = s.accuracy, interval = s.interval, format_compliance = s.format_compliance,
    latency = s.latency, tokens = s.tokens, peak_bytes = s.peak_memory, seconds = s.seconds,
    warnings = s.warnings or {}, reused = s.reused,
    flags = s.flags, order = s.data_sets, tasks = page.data_sets, samples = page.samples,
    quantization = page.quantization, layers = page.layers, bytes = page.bytes, bits_per_weight = page.bits_per_weight,
    settings = page.settings,
  }
end

return results
