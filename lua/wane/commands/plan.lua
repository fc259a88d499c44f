--- wane plan DIR: what quantizing and evaluating would take, told from the headers before a weight is read.
local core = require "wane.core"
local methods = require "wane.methods"

local spec = {
  { name = "method", kind = "one of", choices = { "rtn", "awq", "hqq", "gptq", "smoothquant" }, default = "gptq",
    doc = "how" },
  { name = "bits", kind = "one of", choices = methods.rtn.options.bits.choices, default = 4,
    doc = "how many each weight keeps" },
  { name = "group_size", kind = "one of", choices = methods.rtn.options.group_size.choices,
    doc = "columns that share a scale, 64 unless given; -1: a whole row, as W8A8 always has" },
  { name = "samples", kind = "integer", default = 128, least = 1, doc = "calibration texts, where any are read" },
  { name = "tokens", kind = "integer", default = 512, least = 1, doc = "of each at most" },
  { name = "device", kind = "device", default = "auto", doc = "cpu, cuda or auto" },
  { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
}

-- { what, bytes } in the order of the work; answers and their keys and values take what is left of the budget
local function steps(wane, model, plan, samples, tokens)
  local scratch = core.device.live()
  local evaluating = { what = "evaluating the model as it is", bytes = scratch + model.bytes }
  if model.quantization then return { { what = "the device's own scratch", bytes = scratch }, evaluating } end
  local count = wane[plan.method].needs_text and samples * tokens or 0
  local fits, most = pcall(core.quant.bytes, model, plan, count, tokens)
  if not fits and most.code ~= "oom" then error(most, 0) end
  return {
    { what = "the device's own scratch", bytes = scratch },
    { what = "quantizing by " .. tostring(plan), bytes = fits and most or scratch + most.requested },
    evaluating,
  }
end

return {
  summary = "tell what quantizing and evaluating would take",
  arguments = { { name = "model", doc = "folder of the model, or a hub id" } },
  options = spec,
  json = true,
  run = function(o)
    local wane = require "wane"
    local info = wane.device { name = o.device, memory = o.memory }
    local model <close> = wane.load(o.model)
    local plan = wane[o.method] { bits = o.bits, group_size = o.group_size }
    local room = info.memory or info.total
    local page = { model = model.dir, device = info.description, memory = room,
                   steps = steps(wane, model, plan, o.samples, o.tokens) }
    local fits = true
    for _, step in ipairs(page.steps) do
      step.fits = step.bytes <= room
      fits = fits and step.fits
    end
    page.fits = fits
    if o.json then
      print(core.json.encode(page, { indent = 2 }))
    else
      print(model)
      for _, step in ipairs(page.steps) do
        print(("%-48s %12s  %s"):format(step.what, wane.bytes(step.bytes), step.fits and "fits" or "does not fit"))
      end
      print(("%-48s %12s"):format("of", wane.bytes(room)))
    end
    return fits and 0 or 4
  end,
}
