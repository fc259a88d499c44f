-- sweep.lua: bits x group size x method x model, as one table and one picture of size against accuracy.
--   wane recipes/sweep.lua [--models A,B] [--methods gptq,awq] [--bits 4,3,2] [--group-sizes 32,64,128]
--     [--out sweep.html]
local wane = require "wane"

local o = wane.options.arguments("sweep.lua", {
  { name = "models", kind = "list", default = { "examples/models/lune-1m" }, doc = "folders or hub ids" },
  { name = "methods", kind = "list", default = { "rtn", "hqq", "awq", "gptq" }, doc = "which methods" },
  { name = "bits", kind = "list", default = { "4", "3", "2" }, doc = "which bits" },
  { name = "group_sizes", kind = "list", default = { "64" }, doc = "which group sizes; -1 is a whole row" },
  { name = "calib", kind = "string", default = "examples/data/calibration.jsonl", doc = "calibration chats or text" },
  { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl" },
  { name = "trunc_eval", kind = "integer", default = 50, doc = "the first so many questions of each set; 0: all" },
  { name = "out", kind = "string", doc = "sweep.html, sweep.md or sweep.json" },
}, arg)

local calibration = wane.calibration { file = o.calib }
local results = {}

local function ask(model, name)
  local result = wane.evaluate(model, { data = o.data, trunc_eval = o.trunc_eval, name = name })
  results[#results + 1] = result
  wane.progress.say(("%s: %d of %d right"):format(name, result.correct, result.n))
end

for _, source in ipairs(o.models) do
  local model <close> = wane.load(source)
  local base = source:match("[^/]+$")
  ask(model, base)
  for _, method in ipairs(o.methods) do
    for _, bits in ipairs(o.bits) do
      for _, group_size in ipairs(o.group_sizes) do
        local plan = wane[method] { bits = math.tointeger(bits), group_size = math.tointeger(group_size) }
        local small <close> = wane.quantize(model, plan, calibration)
        ask(small, ("%s %s w%sg%s"):format(base, method, bits, group_size))
      end
    end
  end
end

print(wane.report(results, { out = o.out, title = "Bits, groups and methods" }))
