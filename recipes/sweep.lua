-- sweep.lua: bits x group size x method x model, as one table and one picture of size against accuracy.
--   wane recipes/sweep.lua [--models A,B] [--methods gptq,awq] [--bits 4,3,2] [--group-sizes 32,64] [--out sweep.html]
local wane = require "wane"

local o = wane.options.arguments("sweep.lua", {
  { name = "models", kind = "list", default = { "examples/models/lune-1m" }, doc = "folders or hub ids" },
  { name = "methods", kind = "list", of = "one of", choices = { "rtn", "hqq", "awq", "gptq", "smoothquant" },
    default = { "rtn", "hqq", "awq", "gptq" }, doc = "which methods" },
  { name = "bits", kind = "list", of = "one of", choices = { 2, 3, 4, 8 }, default = { 4, 3, 2 }, doc = "which bits" },
  { name = "group_sizes", kind = "list", of = "one of", choices = { 32, 64, 128, -1 }, default = { 64 },
    doc = "which group sizes; -1 is a whole row" },
  { name = "device", kind = "device", default = "auto", doc = "cpu, cuda or auto" },
  { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
  { name = "calib", kind = "string", default = "examples/data/calibration.jsonl", doc = "calibration chats or text" },
  { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl" },
  { name = "trunc_eval", kind = "integer", default = 50, doc = "the first so many questions of each set; 0: all" },
  { name = "out", kind = "string", doc = "sweep.html, sweep.md or sweep.json" },
}, arg)

wane.device { name = o.device, memory = o.memory }
local calibration = wane.calibration { file = o.calib }
local results = {}

local plans = {}
for _, method in ipairs(o.methods) do
  for _, bits in ipairs(o.bits) do
    for _, group_size in ipairs(o.group_sizes) do
      plans[#plans + 1] = wane[method] { bits = bits, group_size = group_size,
                                         activation_bits = method == "smoothquant" and 16 or nil }
    end
  end
end

local function ask(model, base, label)
  local name = ("%s %s"):format(base, label)
  local result = wane.evaluate(model, { data = o.data, trunc_eval = o.trunc_eval, calibration = calibration,
                                        name = name, progress = wane.progress.bar(name) })
  model:unload()
  result.group, result.short = base, label
  results[#results + 1] = result
  wane.progress.say(("%s: %d of %d right"):format(name, result.correct, result.n))
end

for _, source in ipairs(o.models) do
  local model <close> = wane.load(source)
  local base = wane.fingerprint.name(model)
  ask(model, base, "as it is")
  for _, plan in ipairs(plans) do
    local small <close> = wane.quantize(model, plan, calibration, { progress = wane.progress.bar(plan.label) })
    ask(small, base, plan.label)
  end
end

print(wane.report(results, { out = o.out, title = "Bits, groups and methods" }))
