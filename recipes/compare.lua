-- compare.lua: all methods on one model, beside each other and beside the model as it is.
--   wane recipes/compare.lua [--model DIR] [--bits 4] [--group-size 64] [--trunc-eval N] [--out report.html]
local wane = require "wane"

local o = wane.options.arguments("compare.lua", {
  { name = "model", kind = "string", default = "examples/models/lune-1m", doc = "folder or hub id" },
  { name = "bits", kind = "integer", default = 4, doc = "2, 3, 4 or 8" },
  { name = "group_size", kind = "integer", default = 64, doc = "columns that share a scale" },
  { name = "calib", kind = "string", default = "examples/data/calibration.jsonl", doc = "calibration chats or text" },
  { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl" },
  { name = "trunc_eval", kind = "integer", default = 0, doc = "the first so many questions of each set; 0: all" },
  { name = "out", kind = "string", doc = "report.html, report.md or report.json" },
}, arg)

local grid = { bits = o.bits, group_size = o.group_size }
local calibration = wane.calibration { file = o.calib }
local questions = { data = o.data, trunc_eval = o.trunc_eval }
local model <close> = wane.load(o.model)
local results = { wane.evaluate(model, questions) }

for _, method in ipairs { wane.rtn, wane.awq, wane.hqq, wane.gptq, wane.smoothquant } do
  local plan = method(grid)
  local small <close> = wane.quantize(model, plan, calibration)
  questions.name = plan.method
  local result = wane.evaluate(small, questions)
  result.layers = small.quantization.layers
  results[#results + 1] = result
  wane.progress.say(("%s: %d of %d right"):format(plan, result.correct, result.n))
end

print(wane.report(results, { out = o.out, title = "All methods on " .. o.model }))
