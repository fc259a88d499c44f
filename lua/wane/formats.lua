--- Saving a quantized model, with its report beside it.
local core = require "wane.core"
local options = require "wane.options"

local formats = {}

formats.spec = {
  { name = "format", kind = "string", default = "compressed-tensors", doc = "how the codes lie in the files" },
  { name = "shard_bytes", kind = "bytes", default = 5000000000, doc = "most bytes of one weight file" },
}

--- Writes a quantized model to a folder that is not there yet, reads it back and compares before it gets its name.
-- Config, tokenizer and chat template go along; the report of every layer lies beside them in wane.json.
-- @param model a quantized model
-- @param dir string
-- @param given { format = "compressed-tensors", shard_bytes = "5GB" }
-- @return { dir, bytes, bits_per_weight }
-- @error io (also where the folder is there already), unsupported, oom
function formats.save(model, dir, given)
  local o = options.check(formats.spec, given or {}, "model:save")
  local q = model.quantization
  if not q then error("model:save saves quantized models; this one is as it was loaded", 2) end
  local report = {}
  for key, value in pairs(q) do
    if key ~= "plan" and key ~= "dir" then report[key] = value end
  end
  report.wane, report.plan = core.version, tostring(q.plan)
  local bytes = core.save.write(model, dir, {
    format = o.format, shard_bytes = o.shard_bytes, report = core.json.encode(report, { indent = 1 }) .. "\n",
  })
  return { dir = dir, bytes = bytes, bits_per_weight = 8 * bytes / model.parameters }
end

--- What a folder's wane.json says of how its model was made; nil where there is none.
function formats.report(dir)
  local path = dir .. "/wane.json"
  if core.files.kind(path) ~= "file" then return nil end
  return core.json.load(path)
end

return formats
