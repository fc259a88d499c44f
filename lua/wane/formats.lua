--- Saving a quantized model, with its report beside it; and from one format to another.
local core = require "wane.core"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"
local shape = require "wane.shape"

local formats = {}

-- small enough for most of a model to be on the disk by the time its last layer is quantized
formats.shard_bytes = 1000000000

--- Names of the formats that codes are written in; "dense" is none of them, but what save and convert write besides.
formats.names = {}
local packings = {}
for i, packing in ipairs(core.save.formats()) do
  formats.names[i], packings[packing.name] = packing.name, packing
end

local every = table.move(formats.names, 1, #formats.names, 1, {})
every[#every + 1] = "dense"

local shared = {
  { name = "dtype", kind = "one of", choices = { "bf16", "f16", "f32" },
    doc = "of a dense model's weights; the embedding's unless given" },
  { name = "round_scales", kind = "boolean", default = false,
    doc = "round scales that the format has no numbers for, instead of refusing" },
  { name = "shard_bytes", kind = "bytes", default = formats.shard_bytes, doc = "most bytes of one weight file" },
}

formats.spec = {
  { name = "format", kind = "one of", choices = every, doc = "how codes lie in the files; the plan's unless given" },
  table.unpack(shared),
}

formats.convert_spec = {
  { name = "format", kind = "one of", choices = every, required = true, doc = "how the codes will lie in the files" },
  table.unpack(shared),
}

-- The format that most programs read of what a method makes.
local function usual(plan)
  if plan.method == "awq" and plan.bits == 4 then return "awq" end
  if plan.method == "gptq" and plan.symmetric and (plan.bits == 4 or plan.bits == 8) then return "gptq" end
  if plan.zero == "float" then return "hqq" end
  return "compressed-tensors"
end

-- the grid that a plan's codes will have
local function grid_of(plan, head)
  return { bits = plan.bits, group_size = plan.activation_bits == 8 and -1 or plan.group_size, head = head,
           symmetric = plan.symmetric, activation_bits = plan.activation_bits, fractional = plan.zero == "float" }
end

-- A head in GPTQ's own layout is read by GPTQModel; Transformers 5.17 looks for codes in the layers alone, and goes on
-- with a head of random weights.
local HEAD <const> = "the output head as codes in format gptq is read by GPTQModel, and taken for missing by "
  .. "Transformers"

--- The format that codes of a plan will be stored in, chosen before they are made: they are fitted to its scales.
-- Where the model's sizes are not for the usual one it is compressed-tensors, which takes all.
-- @param model the model to be quantized
-- @param plan wane.awq { bits = 4, format = "compressed-tensors" }
-- @param head whether its head becomes codes too
-- @return the format's name and the dtype of its scales (nil: the weights' own); a warning where it is not the usual
--   one, and no name where no format holds such codes
-- @error unsupported where the plan names a format that cannot hold them
function formats.choose(model, plan, head)
  local grid = grid_of(plan, head)
  local name, warning = plan.format or usual(plan), nil
  if head and name:find "^gptq" then
    warning = HEAD
    if not plan.format then name, warning = "compressed-tensors", HEAD .. ": made for compressed-tensors instead" end
  end
  local ok, err = pcall(core.save.check, model, name, grid)
  if not ok and plan.format then error(err, 0) end
  if not ok then
    warning = err.message
    name = pcall(core.save.check, model, "compressed-tensors", grid) and "compressed-tensors" or nil
  end
  return name, name and packings[name].scale, warning
end

--- Refuses a folder that is there already: asked before hours of work, and again by what writes.
-- @error io
function formats.check_destination(dir)
  if type(dir) ~= "string" then error("the folder to write must be named, by a string and not a " .. type(dir), 3) end
  if core.files.kind(dir) then
    options.fail { code = "io", op = "save", path = dir,
                   message = fingerprint.shown(dir) .. " is there already; wane does not write over it: remove it or "
                     .. "name another" }
  end
  require "wane.paths".check_makeable(dir)
end

-- what is written beside the weights: all that is known of how they were made
local function report_of(q, format)
  local report = {}
  for key, value in pairs(q) do
    if key ~= "plan" and key ~= "dir" then report[key] = value end
  end
  report.wane, report.plan, report.format = core.version, q.plan and tostring(q.plan), format
  return core.json.encode(report, { indent = 1 }) .. "\n"
end

--- Begins to write what a plan's codes will be, beside making them: layer, head and finish as wane.core.early has them.
-- Nothing where the device is the CPU, which has its hands full, or where the host's memory is limited: what waits for
-- the disk is not counted.
function formats.begin(model, dir, plan, format, head)
  local info, grid = core.device.info(), grid_of(plan, head)
  if info.name == "cpu" or info.host_memory then return nil end
  grid.format, grid.shard_bytes = format, formats.shard_bytes
  return core.early.begin(model, dir, grid)
end

--- Ends what begin began: the whole model has its report by now.
function formats.finish(early, model)
  early:finish(model, report_of(model.quantization, model.quantization.format))
end

local function write(model, dir, o, format)
  local bytes, rounded, worst = core.save.write(model, dir, {
    format = format, dtype = o.dtype, round = o.round_scales, shard_bytes = o.shard_bytes,
    report = format ~= "dense" and report_of(model.quantization, format) or nil,
  })
  return { dir = dir, format = format, bytes = bytes, bits_per_weight = 8 * bytes / model.parameters,
           rounded = rounded, largest_change = worst }
end

--- Writes a quantized model to a folder that is not there yet, reads it back and compares before it gets its name.
-- Config, tokenizer and chat template go along; the report of every layer lies beside them in wane.json. Codes are
-- written as they are: what the format cannot hold is refused, with the reason and the format that can.
-- @param model a quantized model
-- @param dir string
-- @param given { format = "awq", shard_bytes = "5GB" }; the format that the plan named unless given
-- @return { dir, format, bytes, bits_per_weight, rounded, largest_change }
-- @error io (also where the folder is there already), unsupported, oom
function formats.save(model, dir, given)
  local o = options.check(formats.spec, given or {}, "model:save")
  local q = model.quantization
  if not q then error("model:save saves quantized models; this one is as it was loaded", 2) end
  return write(model, dir, o, o.format or q.format or "compressed-tensors")
end

--- Writes a quantized folder in another format, or dense: the weights that its codes stand for, for programs that know
-- no codes. Between formats not a weight changes; rounding to a dense type is told in the result.
-- @param source a folder
-- @param dir the folder to write; not there yet
-- @param given { format = "awq", dtype, round_scales, shard_bytes }
-- @return { dir, format, bytes, bits_per_weight, rounded, largest_change }
-- @error io, format, unsupported (the format cannot hold these codes, or not without rounding), oom
-- @usage wane.convert("out/model_gptq", "out/model_awq", { format = "awq" })
function formats.convert(source, dir, given)
  local o = options.check(formats.convert_spec, given or {}, "wane.convert")
  formats.check_destination(dir)
  local model <close> = require "wane.load"(source)
  if not model.quantization then
    options.fail { code = "unsupported", op = "convert", path = source,
                   message = fingerprint.shown(source) .. " is not quantized: there are no codes to convert; "
                     .. "wane quantize makes some" }
  end
  return write(model, dir, o, o.format)
end

-- What is used of a report; a folder from elsewhere may hold any.
local REPORT <const> = {
  method = "text?", made = "text?", plan = "text?", format = "text?", seconds = "number?", peak_bytes = "count?",
  error = "number?", rtn_error = "number?", warnings = { list = "text", maybe = true },
  layers = { maybe = true, list = { name = "text", error = "number?", rtn_error = "number?", damp = "number?",
                                    fallback = "text?", seconds = "number?" } },
  calibration = { maybe = true, hash = "text?", samples = "count?", weights = "text?", answer = "number?" },
  proof = { maybe = true, divergence = "number?", perplexity = "number?", source_perplexity = "number?",
            notes = { list = "text", maybe = true } },
}

-- What a folder's wane.json says of how its model was made; nil where there is none.
local function kept_report(dir)
  local path = dir .. "/wane.json"
  if core.files.kind(path) ~= "file" then return nil end
  local report = core.json.load(path)
  if type(report) == "table" then shape.without_nulls(report, core.json.null) end
  local problem = shape.wrong(report, REPORT)
  if problem then
    options.fail { code = "format", op = "load", path = path,
                   message = ("%s is not a report of wane's: %s; remove it"):format(fingerprint.shown(path), problem) }
  end
  return report
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
  local grid = core.save.grid(model)
  if not grid then return nil end
  local q = kept_report(model.dir) or { layers = core.json.array {} }
  for _, key in ipairs { "format", "bits", "group_size", "symmetric", "activation_bits" } do q[key] = grid[key] end
  q.method = q.method or "unknown"
  q.label, q.dir = label_of(q.method, q), model.dir
  return q
end

return formats
