--- wane bench DIR: how fast a model reads prompts and writes answers, as it is and at four bits.
local core = require "wane.core"

local function show(name, rows)
  for _, row in ipairs(rows) do
    print(("%-14s %-7s batch %2d  %10.1f tokens/s"):format(name, row.kind, row.batch, row.rate))
  end
end

return {
  summary = "measure how fast a model reads and writes",
  arguments = { { name = "model", doc = "folder of the model, or a hub id" } },
  options = {
    { name = "bits", kind = "integer", default = 4, least = 0, doc = "measured beside the model as it is; 0: not" },
    { name = "group_size", kind = "integer", default = 64, doc = "columns that share a scale" },
    { name = "prompt", kind = "integer", default = 512, least = 1, doc = "tokens of the prompt that is read" },
    { name = "tokens", kind = "integer", default = 64, least = 2, doc = "tokens of each answer" },
    { name = "runs", kind = "integer", default = 3, least = 1, doc = "runs of each, of which the fastest counts" },
    { name = "device", kind = "device", default = "auto", doc = "cpu, cuda or auto" },
    { name = "memory", kind = "bytes", doc = "most that may lie on the device at once" },
  },
  json = true,
  run = function(o)
    local wane = require "wane"
    local info = wane.device { name = o.device, memory = o.memory }
    local how = { prompt = o.prompt, tokens = o.tokens, runs = o.runs }
    local model <close> = wane.load(o.model)
    local page = { device = info.description, models = { { name = "as it is", rates = wane.bench(model, how) } } }
    model:unload()
    if o.bits > 0 and not model.quantization then
      local small <close> = wane.quantize(model, wane.rtn { bits = o.bits, group_size = o.group_size }, nil,
        { prove = false })
      page.models[2] = { name = ("w%d g%d"):format(o.bits, o.group_size), rates = wane.bench(small, how) }
    end
    if o.json then
      print(core.json.encode(page, { indent = 2 }))
    else
      print(page.device)
      for _, one in ipairs(page.models) do show(one.name, one.rates) end
    end
    return 0
  end,
}
