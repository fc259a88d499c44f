-- quantize.lua: one model, one method, saved; the shortest recipe there is.
--   wane recipes/quantize.lua MODEL OUT [--method gptq] [--bits 4] [--group-size 64]
local wane = require "wane"

local o = wane.options.arguments("quantize.lua MODEL OUT", {
  { name = "method", kind = "one of", choices = { "rtn", "awq", "gptq", "hqq", "smoothquant" }, default = "gptq",
    doc = "how" },
  { name = "bits", kind = "integer", default = 4, doc = "2, 3, 4 or 8" },
  { name = "group_size", kind = "integer", default = 64, doc = "columns that share a scale" },
  { name = "calib", kind = "string", default = "examples/data/calibration.jsonl", doc = "calibration chats or text" },
}, arg, 2)

local model <close> = wane.load(o[1])
local plan = wane[o.method] { bits = o.bits, group_size = o.group_size }
local small <close> = wane.quantize(model, plan, wane.calibration { file = o.calib })
small:save(o[2])
print(small)
