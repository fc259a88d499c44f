-- fallback.lua: the study. Models from large to small, each as it is and by every method, on the four question sets.
--   wane recipes/fallback.lua [--models A,B,C] [--memory 24GiB] [--out runs/fallback] [--trunc-eval N]
-- Out of memory goes on with the next smaller model, an error with the next method. The same command goes on where an
-- interrupted one stopped. status.md, status.json and report.html in the run's folder tell what came of it.
local wane = require "wane"

local o = wane.options.arguments("fallback.lua", {
  { name = "models", kind = "list", doc = "folders, the largest first",
    default = { "examples/models/lune-5m", "examples/models/lune-3m", "examples/models/lune-1m" } },
  { name = "device", kind = "device", default = "auto", doc = "cpu, cuda or auto" },
  { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
  { name = "bits", kind = "one of", choices = { 2, 3, 4, 8 }, default = 4, doc = "how many each weight keeps" },
  { name = "group_size", kind = "one of", choices = { 32, 64, 128, -1 }, default = 64,
    doc = "columns that share a scale; -1: a whole row" },
  { name = "calib", kind = "string", default = "examples/data/calibration.jsonl", doc = "calibration chats or text" },
  { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl" },
  { name = "trunc_eval", kind = "integer", default = 0, doc = "the first so many questions of each set; 0: all" },
  { name = "max_tokens", kind = "integer", default = 1000, least = 1, doc = "most generated tokens for an answer" },
  { name = "out", kind = "string", default = "runs/fallback", doc = "folder of the run" },
  { name = "delete_failed", kind = "boolean", default = false, doc = "delete the outputs of failed cells" },
}, arg)

wane.device { name = o.device, memory = o.memory }
local grid = { bits = o.bits, group_size = o.group_size }

local run = wane.study {
  models = o.models,
  plans = { wane.awq(grid), wane.hqq(grid), wane.gptq(grid),
            wane.smoothquant { bits = o.bits, group_size = o.bits < 8 and o.group_size or nil } }, -- 8 bits: W8A8
  calibration = wane.calibration { file = o.calib },
  data = o.data, trunc_eval = o.trunc_eval, max_tokens = o.max_tokens, out = o.out, delete_failed = o.delete_failed,
  say = wane.progress.say, bar = wane.progress.bar,
}

print(run.markdown)
