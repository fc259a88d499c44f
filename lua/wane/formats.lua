--- Saving a quantized model, with its report beside it.
local core = require "wane.core"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"

local formats = {}

formats.spec = {
  { name = "format", kind = "string", default = "compressed-tensors", doc = "how the codes lie in the files" },
  { name = "shard_bytes", kind = "bytes", default = 5000000000, doc = "most bytes of one weight file" },
}

--- Refuses a folder that is there already: asked before hours of work, and again by what writes.
-- @error io
function formats.check_destination(dir)
  if core.files.kind(dir) then
    options.fail { code = "io", op = "save", path = dir,
                   message = fingerprint.shown(dir) .. " is there already; wane does not write over it: remove it or "
                     .. "name another" }
  end
end

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

-- columns of a matrix by its name
local function columns_of(config, matrix)
  if matrix:find("down_proj$") then return math.tointeger(config.intermediate_size) end
  local heads = config.num_attention_heads * (config.head_dim or config.hidden_size // config.num_attention_heads)
  return math.tointeger(matrix:find("o_proj$") and heads or config.hidden_size)
end

-- The grid as the stored tensors of the first layer show it, not what the config claims. Whole rows are told apart from
-- a group as wide as some matrices by every matrix having one scale a row.
local function stored_grid(model)
  local grid = { bits = 8, group_size = -1, symmetric = true, activation_bits = 8 }
  for _, w in ipairs(model:weights()) do
    local matrix, part = w.name:match("layers%.0%.(.+_proj)%.([%l_]+)$")
    local k = matrix and columns_of(model.config, matrix)
    if part == "weight_packed" then
      grid.bits, grid.activation_bits = 32 * w.shape[2] // k, 16
    elseif part == "weight_scale" and w.shape[2] > 1 then
      grid.group_size = k // w.shape[2]
    elseif part == "weight_zero_point" then
      grid.symmetric = false
    end
  end
  return grid
end

-- as a model that was only just made calls it (runtime/quant/quant.c)
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
