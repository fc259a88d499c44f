--- wane eval DIR: asks a model the questions and writes the JSON report its users know.
local core = require "wane.core"

local function print_result(result)
  local report = require "wane.report"
  print(("%s: %d of %d right, %s; boxed %s"):format(result.name, result.correct, result.n,
    report.share(result.accuracy, result.interval), report.share(result.format_compliance)))
  for _, name in ipairs(result.order) do
    local t = result.tasks[name]
    print(("  %-9s %3d of %3d right, %s; boxed %s"):format(name, t.correct, t.n, report.share(t.accuracy, t.interval),
      report.share(t.format_compliance)))
  end
  for _, warning in ipairs(result.warnings) do io.stderr:write("wane: ", warning, "\n") end
end

--- The report of one model as its users know it: model, time, summary, a block a set, quantization, hardware.
local function as_report(result)
  local info = core.device.info()
  local sets = {}
  for name, t in pairs(result.tasks) do sets[name] = t end
  return {
    model = result.name, time = result.time, key = result.key, weights = result.weights,
    summary = {
      data_sets = core.json.array(result.order), samples = result.n, correct = result.correct,
      accuracy = result.accuracy, interval = result.interval, format_compliance = result.format_compliance,
      latency = result.latency, tokens = result.tokens, peak_memory = result.peak_bytes, flags = result.flags,
      quantization = result.quantization and result.quantization.label or "none",
      warnings = core.json.array(result.warnings),
    },
    data_sets = sets,
    quantization = result.quantization, bytes = result.bytes, bits_per_weight = result.bits_per_weight,
    settings = result.settings,
    hardware = { device = info.description, threads = info.threads, memory = info.total },
    samples = result.samples,
  }
end

return {
  summary = "ask a model the questions of the sets",
  arguments = { { name = "model", doc = "folder of the model, or a hub id" } },
  options = {
    { name = "trunc_eval", kind = "integer", default = 0, doc = "the first so many records of each set; 0: all" },
    { name = "tasks", kind = "list", default = { "arc", "boolq", "squad_v2", "openmath" }, doc = "question sets" },
    { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl" },
    { name = "max_tokens", kind = "integer", default = 1000, least = 1, doc = "most generated tokens for an answer" },
    { name = "batch", kind = "integer", default = 0, least = 0, doc = "answers at once; 0: as many as fit" },
    { name = "out", kind = "string", doc = "file for the JSON report" },
    { name = "samples", kind = "string", doc = "file for one JSON line per question" },
    { name = "device", kind = "string", default = "auto", doc = "cpu, cuda or auto" },
    { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
  },
  json = true,
  run = function(o)
    local wane = require "wane"
    wane.device { name = o.device, memory = o.memory }
    local model <close> = wane.load(o.model)
    local result = wane.evaluate(model, {
      tasks = o.tasks, data = o.data, trunc_eval = o.trunc_eval, max_tokens = o.max_tokens, batch = o.batch,
      samples = o.samples,
    })
    local page = as_report(result)
    if o.out then core.files.write(o.out, core.json.encode(page, { indent = 2 }) .. "\n") end
    if o.json then print(core.json.encode(page, { indent = 2 })) else print_result(result) end
    return 0
  end,
}
