-- compare.lua: all methods on one model, beside each other and beside the model as it is.
--   wane recipes/compare.lua [--model DIR] [--bits 4] [--group-size 64] [--trunc-eval N] [--out report.html]
local wane = require "wane"

local o = wane.options.arguments("compare.lua", {
  { name = "model", kind = "string", default = "examples/models/lune-1m", doc = "folder or hub id" },
  { name = "device", kind = "device", default = "auto", doc = "cpu, cuda or auto" },
  { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
  { name = "bits", kind = "one of", choices = { 2, 3, 4, 8 }, default = 4, doc = "how many each weight keeps" },
  { name = "group_size", kind = "one of", choices = { 32, 64, 128, -1 }, default = 64,
    doc = "columns that share a scale; -1: a whole row" },
  { name = "calib", kind = "string", default = "examples/data/calibration.jsonl", doc = "calibration chats or text" },
  { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl" },
  { name = "trunc_eval", kind = "integer", default = 0, doc = "the first so many questions of each set; 0: all" },
  { name = "out", kind = "string", doc = "report.html, report.md or report.json" },
}, arg)

wane.device { name = o.device, memory = o.memory }
local grid = { bits = o.bits, group_size = o.group_size }
local plans = { wane.rtn(grid), wane.awq(grid), wane.hqq(grid), wane.gptq(grid),
                wane.smoothquant { bits = o.bits, group_size = o.bits < 8 and o.group_size or nil } } -- 8 bits: W8A8
local calibration = wane.calibration { file = o.calib }
local model <close> = wane.load(o.model)
local results = {}

local function ask(asked, name)
  local result = wane.evaluate(asked, { data = o.data, trunc_eval = o.trunc_eval, calibration = calibration,
                                        name = name, progress = wane.progress.bar(name) })
  asked:unload()
  results[#results + 1] = result
  wane.progress.say(("%s: %d of %d right"):format(name, result.correct, result.n))
end

ask(model, "as it is")
for _, plan in ipairs(plans) do
  local small <close> = wane.quantize(model, plan, calibration, { progress = wane.progress.bar(plan.method) })
  ask(small, plan.label)
end

print(wane.report(results, { out = o.out, title = "All methods on " .. o.model }))
