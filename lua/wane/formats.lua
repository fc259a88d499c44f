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

-- What a folder's wane.json says of how its model was made; nil where there is none.
local function report_of(dir)
  local path = dir .. "/wane.json"
  if core.files.kind(path) ~= "file" then return nil end
  return core.json.load(path)
end

-- The grid as the stored tensors show it: shapes of the first layer's codes, not what the config claims.
local function stored_grid(model)
  local first = "model.layers.0.self_attn.q_proj."
  local shapes = {}
  for _, w in ipairs(model:weights()) do
    local part = w.name:sub(1, #first) == first and w.name:sub(#first + 1)
    if part then shapes[part] = w.shape end
  end
  local columns = math.tointeger(model.config.hidden_size)
  local groups = shapes.weight_scale and shapes.weight_scale[2] or 1
  local packed = shapes.weight_packed
  return {
    bits = packed and 32 * packed[2] // columns or 8,
    group_size = groups == 1 and -1 or columns // groups,
    symmetric = shapes.weight_zero_point == nil,
    activation_bits = not packed and 8 or 16,
  }
end

local function label_of(method, grid)
  if grid.activation_bits == 8 then return method .. " w8a8" end
  return ("%s w%d %s%s"):format(method, grid.bits, grid.group_size == -1 and "row" or "g" .. grid.group_size,
    grid.symmetric and " sym" or "")
end

--- What is known of a saved quantized model: its report, with the grid as the stored tensors show it, which wins.
-- @param model a model opened from a folder
-- @return table or nil  nil where the model is not quantized
function formats.quantization(model)
  if not model.config.quantization_config or model.config.quantization_config == core.json.null then return nil end
  local q = report_of(model.dir) or { layers = core.json.array {} }
  for key, value in pairs(stored_grid(model)) do q[key] = value end
  q.method = q.method or "unknown"
  q.label, q.dir = label_of(q.method, q), model.dir
  return q
end

return formats
