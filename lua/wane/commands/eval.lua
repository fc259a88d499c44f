--- wane eval DIR: asks a model the questions and writes the JSON report its users know.
local core = require "wane.core"
local tasks = require "wane.tasks"

local function print_result(result)
  local report = require "wane.report"
  print(("%s: %d of %d right, %s; boxed %s"):format(result.name, result.correct, result.n,
    report.share(result.accuracy, result.interval), report.share(result.format_compliance)))
  for _, name in ipairs(result.order) do
    local t = result.tasks[name]
    print(("  %-9s %3d of %3d right, %s; boxed %s"):format(name, t.correct, t.n, report.share(t.accuracy, t.interval),
      report.share(t.format_compliance)))
  end
end

return {
  summary = "ask a model the questions of the sets",
  arguments = { { name = "model", doc = "folder of the model, or a hub id" } },
  options = {
    { name = "trunc_eval", kind = "integer", default = 0, doc = "the first so many records of each set; 0: all" },
    { name = "tasks", kind = "list", of = "one of", choices = tasks.names, default = tasks.names,
      doc = "question sets" },
    { name = "data", kind = "string", default = "examples/data",
      doc = "folder with TASK.test.jsonl, .json or .parquet, or folders of shards TASK/" },
    { name = "max_tokens", kind = "integer", default = 1000, least = 1, doc = "most generated tokens for an answer" },
    { name = "batch", kind = "integer", default = 0, least = 0, doc = "answers at once; 0: as many as fit" },
    { name = "thinking", kind = "boolean", default = false, doc = "let the chat template open a thinking part" },
    { name = "out", kind = "string", doc = "file for the JSON report" },
    { name = "samples", kind = "string",
      doc = "file for one JSON line per question; what it has answers to already is not asked again" },
    { name = "device", kind = "device", default = "auto", doc = "cpu, cuda or auto" },
    { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
  },
  json = true,
  run = function(o)
    local wane = require "wane"
    for _, file in pairs { o.out, o.samples } do wane.paths.check_writable(file) end
    wane.device { name = o.device, memory = o.memory }
    local model <close> = wane.load(o.model)
    local result = wane.evaluate(model, {
      tasks = o.tasks, data = o.data, trunc_eval = o.trunc_eval, max_tokens = o.max_tokens, batch = o.batch,
      thinking = o.thinking, samples = o.samples, progress = wane.progress.bar(wane.fingerprint.name(model)),
    })
    local page = wane.results.page(result)
    if o.out then wane.json.save(o.out, page) end
    if o.json then print(core.json.encode(page, { indent = 2 })) else print_result(result) end
    if result.reused > 0 then
      wane.progress.say(("wane: %d of %d answers were in %s already"):format(result.reused, result.n, o.samples))
    end
    for _, warning in ipairs(result.warnings) do wane.progress.say("wane: " .. warning) end
    return 0
  end,
}
