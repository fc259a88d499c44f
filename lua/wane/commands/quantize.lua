--- wane quantize --method M --src DIR --dst DIR: one model made small and saved.
return {
  summary = "make a model small",
  arguments = {},
  options = {
    { name = "method", kind = "one of", choices = { "rtn", "awq", "hqq", "gptq", "smoothquant" }, default = "gptq",
      doc = "how" },
    { name = "src", kind = "string", required = true, doc = "folder of the model, or a hub id" },
    { name = "dst", kind = "string", required = true, doc = "folder to write; must not be there yet" },
    { name = "calib", kind = "string", doc = "calibration chats (JSONL) or text, one prompt a line" },
    { name = "bits", kind = "integer", default = 4, doc = "2, 3, 4 or 8" },
    { name = "group_size", kind = "integer", default = 64, doc = "columns that share a scale; -1: a whole row" },
    { name = "symmetric", kind = "boolean", doc = "no zero points" },
    { name = "keep_lm_head_fp16", kind = "boolean", default = true, doc = "leave the output head in 16 bits" },
    { name = "device", kind = "string", default = "auto", doc = "cpu, cuda or auto" },
    { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
  },
  json = true,
  run = function(o)
    local wane = require "wane"
    wane.device { name = o.device, memory = o.memory }
    local model <close> = wane.load(o.src)
    local plan = wane[o.method] {
      bits = o.bits, group_size = o.group_size, symmetric = o.symmetric, keep_lm_head = o.keep_lm_head_fp16,
    }
    local calibration = o.calib and wane.calibration { file = o.calib }
    local small <close> = wane.quantize(model, plan, calibration, { progress = wane.progress.bar(tostring(plan)) })
    small:save(o.dst)
    local saved <close> = wane.load(o.dst)
    if o.json then
      print(wane.json.encode(saved.quantization, { indent = 2 }))
    else
      print(saved)
    end
    return 0
  end,
}
