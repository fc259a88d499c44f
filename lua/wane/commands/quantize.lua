--- wane quantize --method M --src DIR --dst DIR: one model made small and saved.
local core = require "wane.core"
local methods = require "wane.methods"
local options = require "wane.options"

local names = {}
for i, method in ipairs(methods) do names[i] = method.name end

local function plan_of(o)
  local ok, plan = pcall(methods[o.method], {
    bits = o.bits, group_size = o.group_size, symmetric = o.symmetric, keep_lm_head = o.keep_lm_head_fp16,
  })
  if not ok then
    options.fail { code = "usage", message = ("quantize: %s\nsee wane quantize --help"):format((tostring(plan)
      :gsub("^wane%.", ""):gsub("^.-%.lua:%d+: wane%.", ""))) }
  end
  if methods[o.method].needs_text and not o.calib then
    options.fail { code = "usage",
                   message = ("quantize: %s learns from text: give it with --calib FILE"):format(o.method) }
  end
  return plan
end

-- What can be refused is refused before an hour of work.
local function check_destination(o)
  if core.files.kind(o.dst) then
    options.fail { code = "io", op = "save", path = o.dst,
                   message = o.dst .. " is there already; wane does not write over it: remove it or name another" }
  end
end

local function print_saved(wane, saved)
  local q = saved.quantization
  print(saved)
  print(("%s: %s of weights, %.2f bits each; mean error %.4f of %s, round to nearest has %.4f"):format(saved.dir,
    wane.bytes(saved.bytes), select(2, wane.fingerprint.size(saved)), q.error, q.error_of, q.rtn_error))
  for _, warning in ipairs(q.warnings or {}) do wane.progress.say("wane: " .. warning) end
end

return {
  summary = "make a model small",
  arguments = {},
  options = {
    { name = "method", kind = "one of", choices = names, default = "gptq", doc = "how" },
    { name = "src", kind = "string", required = true, doc = "folder of the model, or a hub id" },
    { name = "dst", kind = "string", required = true, doc = "folder to write; must not be there yet" },
    { name = "calib", kind = "string", doc = "calibration chats (JSONL) or text, one prompt a line" },
    { name = "bits", kind = "one of", choices = methods.rtn.options.bits.choices, default = 4,
      doc = "how many each weight keeps" },
    { name = "group_size", kind = "one of", choices = methods.rtn.options.group_size.choices,
      doc = "columns that share a scale, 64 unless given; -1: a whole row, as W8A8 always has" },
    { name = "symmetric", kind = "boolean", doc = "no zero points" },
    { name = "keep_lm_head_fp16", kind = "boolean", default = true, doc = "leave the output head in 16 bits" },
    { name = "format", kind = "string", default = "compressed-tensors", doc = "how the codes lie in the files" },
    { name = "device", kind = "string", default = "auto", doc = "cpu, cuda or auto" },
    { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
  },
  json = true,
  run = function(o)
    local wane = require "wane"
    local plan = plan_of(o)
    check_destination(o)
    wane.device { name = o.device, memory = o.memory }
    local model <close> = wane.load(o.src)
    local calibration = o.calib and wane.calibration { file = o.calib }
    local small <close> = wane.quantize(model, plan, calibration, { progress = wane.progress.bar(tostring(plan)) })
    small:save(o.dst, { format = o.format })
    local saved <close> = wane.load(o.dst)
    if o.json then print(core.json.encode(saved.quantization, { indent = 2 })) else print_saved(wane, saved) end
    return 0
  end,
}
