-- quantize.lua: one model, one method, saved; the shortest recipe there is.
--   wane recipes/quantize.lua MODEL OUT [--method gptq] [--bits 4] [--group-size 64]
local wane = require "wane"

local o = wane.options.arguments("quantize.lua MODEL OUT", {
  { name = "method", kind = "one of", choices = { "rtn", "awq", "gptq", "hqq", "smoothquant" }, default = "gptq",
    doc = "how" },
  { name = "bits", kind = "one of", choices = { 2, 3, 4, 8 }, default = 4, doc = "how many each weight keeps" },
  { name = "group_size", kind = "one of", choices = { 32, 64, 128, -1 },
    doc = "columns that share a scale, 64 unless given; -1: a whole row, as W8A8 always has" },
  { name = "calib", kind = "string", default = "examples/data/calibration.jsonl", doc = "calibration chats or text" },
}, arg, 2)

local model <close> = wane.load(o[1])
local plan = wane[o.method] { bits = o.bits, group_size = o.group_size }
local small <close> = wane.quantize(model, plan, wane.calibration { file = o.calib })
small:save(o[2])
print(small)
