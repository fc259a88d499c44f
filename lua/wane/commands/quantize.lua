--- wane quantize --method M --src DIR --dst DIR: one model made small and saved.
local core = require "wane.core"
local formats = require "wane.formats"
local methods = require "wane.methods"
local options = require "wane.options"

local function names_of(list)
  local names = {}
  for i, item in ipairs(list) do names[i] = item.name end
  return names
end

local function plan_of(o)
  local ok, plan = pcall(methods[o.method], {
    bits = o.bits, group_size = o.group_size, symmetric = o.symmetric, keep_lm_head = o.keep_lm_head_fp16,
    format = o.format,
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

local function print_saved(wane, saved)
  local q = saved.quantization
  local bytes, bits = wane.fingerprint.size(saved)
  print(saved)
  print(("%s: %s of files, %.2f bits a weight; mean error %.4f of the %s, round to nearest has %.4f"):format(saved.dir,
    wane.bytes(bytes), bits, q.error, q.error_of, q.rtn_error))
  local proof = q.proof
  if proof and proof.divergence then
    print(("next tokens: divergence %.4f nats, perplexity %.3f where the source has %.3f"):format(proof.divergence,
      proof.perplexity, proof.source_perplexity))
  end
  for _, warning in ipairs(q.warnings or {}) do wane.progress.say("wane: " .. warning) end
end

return {
  summary = "make a model small",
  arguments = {},
  options = {
    { name = "method", kind = "one of", choices = names_of(methods), default = "gptq", doc = "how" },
    { name = "src", kind = "string", required = true, doc = "folder of the model, or a hub id" },
    { name = "dst", kind = "string", required = true, doc = "folder to write; must not be there yet" },
    { name = "calib", kind = "string",
      doc = "calibration set: JSONL, JSON or Parquet of chats, prompts or texts; or text, one prompt a line; or a "
        .. "folder or pattern of such files" },
    { name = "calib_plain", kind = "one of", choices = { "lines", "paragraphs", "file" }, default = "lines",
      doc = "plain text: each line a prompt, each paragraph a raw text, or the file one, cut into samples" },
    { name = "bits", kind = "one of", choices = methods.rtn.options.bits.choices, default = 4,
      doc = "how many each weight keeps" },
    { name = "group_size", kind = "one of", choices = methods.rtn.options.group_size.choices,
      doc = "columns that share a scale, 64 unless given; -1: a whole row, as W8A8 always has" },
    { name = "symmetric", kind = "boolean", doc = "no zero points" },
    { name = "keep_lm_head_fp16", kind = "boolean", default = true, doc = "leave the output head in 16 bits" },
    { name = "format", kind = "one of", choices = formats.names,
      doc = "how the codes lie in the files; the method's own unless given" },
    { name = "device", kind = "device", default = "auto", doc = "cpu, cuda or auto" },
    { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
  },
  json = true,
  run = function(o)
    local wane = require "wane"
    local plan = plan_of(o)
    formats.check_destination(o.dst)
    local device = wane.device { name = o.device, memory = o.memory }
    local model <close> = wane.load(o.src)
    local calibration = o.calib and wane.calibration { file = o.calib, plain = o.calib_plain }
    local function say_plan(bytes)
      wane.progress.say(("%s: at most %s of %s"):format(device.name, wane.bytes(bytes),
        wane.bytes(device.memory or device.total)))
    end
    local small <close> = wane.quantize(model, plan, calibration,
      { on_plan = say_plan, progress = wane.progress.bar(tostring(plan)) })
    small:save(o.dst)
    local saved <close> = wane.load(o.dst)
    if o.json then print(core.json.encode(saved.quantization, { indent = 2 })) else print_saved(wane, saved) end
    return 0
  end,
}
