--- Quantizing a model: layer after layer, each stage's matrices measured on the outputs of the quantized ones before.
-- The source stays as it is and on disk; one layer at a time is on the device, and the result's layers wait on the
-- host. Policy is here; every step is one call of C (runtime/quant).
local core = require "wane.core"
local formats = require "wane.formats"
local methods = require "wane.methods"
local options = require "wane.options"

local spec = {
  { name = "out", kind = "string", doc = "folder to save the result in once it is whole" },
  { name = "on_plan", kind = "function",
    doc = "called with the most bytes that will be on the device, before a weight is read" },
  { name = "on_layer", kind = "function", doc = "called with (number from 1, layer) as each layer is finished" },
  { name = "progress", kind = "function", doc = "called with (done, of, name) after each layer" },
  { name = "prove", kind = "boolean", default = true, doc = "ask the result a question, hold it against its source" },
}

local STAGES = 4 -- q, k, v | o | gate, up | down: matrices that read one input

local function has_own_head(model)
  -- a tied one that is written out all the same is the embedding again
  if model.config.tie_word_embeddings == true then return false end
  for _, w in ipairs(model:weights()) do
    if w.name == "lm_head.weight" then return true end
  end
  return false
end

local function check_arguments(plan, calibration)
  if not methods.is_plan(plan) then
    error("wane.quantize takes a plan second, as wane.gptq { bits = 4 }", 3)
  end
  if methods[plan.method].needs_text and not calibration then
    error(("wane.%s needs calibration text: wane.quantize(model, plan, wane.calibration { file = ... })"):format(
      plan.method), 3)
  end
end

-- Refuses a model that is quantized already.
local function check_source(model)
  if not model.quantization then return end
  local dense = model.quantization.activation_bits == 16
    and (", or what it stands for: wane convert %s DIR --format dense"):format(model.dir) or ""
  options.fail { code = "unsupported", op = "quantize",
                 message = ("%s is quantized already (%s); quantize the model it was made from%s"):format(model.dir,
                   model.quantization.label, dense) }
end

-- The texts on their way through the model, and what is known of them.
local function start(model, plan, calibration, texts)
  local pass = core.quant.calibrate(model, plan, texts.ids, texts.weights, calibration.weights)
  local about = pass:info()
  about.file, about.hash, about.weights, about.answer = texts.file, texts.hash, calibration.weights, calibration.answer
  return pass, about
end

-- The most that will be on the device; an error where that is more than there is, before a weight is read.
local function planned(model, plan, texts)
  local tokens, longest = 0, 0
  for _, ids in ipairs(texts and texts.ids or {}) do
    tokens, longest = tokens + #ids, math.max(longest, #ids)
  end
  return core.quant.bytes(model, plan, tokens, longest)
end

-- Fewer distinct tokens than the widest input has columns: the gram matrix has no full rank.
local function warnings(about)
  if about.distinct >= about.widest then return {} end
  return { ("%d distinct calibration tokens for inputs %d wide: give more text"):format(about.distinct, about.widest) }
end

-- a run gives its pass back however it ends, and what it wrote of a result that did not come to be
local closing = {
  __close = function(run)
    if run.pass then run.pass:close() end
    if run.early then run.early:close() end
    core.quant.rest(run.model)
  end,
}

-- The matrices of one stage of layer i (from 0) into layer; their results at the end of list.
local function quantize_stage(run, i, number, source, layer)
  local stats <close> = run.pass and run.pass:step(layer, i, number - 1, run.plan)
  local stage <close> = core.quant.stage(run.model, run.plan, source, layer, number, stats, run.pass, run.scale)
  stage:rescale()
  for k, name in ipairs(stage:names()) do
    local result, codes = stage:encode(k)
    codes:close()
    result.name = ("model.layers.%d.%s"):format(i, name)
    result.error_of = run.pass and "outputs" or "weights"
    run.results[#run.results + 1] = result
  end
end

-- Layer i (from 0), quantized, on the host.
local function quantize_layer(run, i, count)
  local source <close> = core.quant.layer(run.model, i)
  local layer <close> = source:begin()
  for number = 0, STAGES - 1 do quantize_stage(run, i, number, source, layer) end
  if run.pass and (i + 1 < count or run.head) then run.pass:step(layer, i, STAGES - 1) end
  return layer:to_host()
end

-- Codes of an untied head; nothing precedes it that a scale could be folded into, so it is encoded as it is.
local function quantize_head(run, count)
  local final <close> = core.quant.final(run.model)
  local stats <close> = run.pass and run.pass:step(final, count, -1, run.plan)
  local weight <close> = run.model:tensor "lm_head.weight"
  local stage <close> = core.quant.matrix(run.plan, weight, stats, run.scale)
  local result, codes = stage:encode(1)
  result.name, result.error_of = "lm_head", run.pass and "outputs" or "weights"
  run.results[#run.results + 1] = result
  return codes
end

local function mean(list, field)
  local sum = 0
  for _, item in ipairs(list) do sum = sum + item[field] end
  return sum / #list
end

-- What the result says of itself; the grid is read off its tensors. Whole rows are told from a group as wide as the
-- matrix by the plan: it is -1 there.
local function describe(run, layer, about, began)
  local codes <close> = layer:codes "self_attn.q_proj"
  local rows = codes.group_size == codes.shape[2] and (run.plan.group_size == -1 or codes.activation_bits == 8)
  local label = rows and codes.label:gsub("g%d+", "row") or codes.label
  local fallbacks = 0
  for _, r in ipairs(run.results) do fallbacks = fallbacks + (r.fallback and 1 or 0) end
  local info = core.device.info()
  return {
    method = run.plan.method, plan = tostring(run.plan), label = run.plan.method .. " " .. label,
    bits = codes.bits, group_size = rows and -1 or codes.group_size, symmetric = codes.symmetric,
    activation_bits = codes.activation_bits, layers = run.results, calibration = about,
    error = mean(run.results, "error"), rtn_error = mean(run.results, "rtn_error"),
    error_of = run.pass and "outputs" or "weights", fallbacks = fallbacks,
    warnings = about and warnings(about) or {}, format = run.format,
    seconds = core.clock() - began, peak_bytes = info.peak, device = info.description,
  }
end

--- Quantizes a model by a plan. The source is not changed; what fails leaves nothing behind.
-- Every matrix stands in quantization.layers with its relative output error and round-to-nearest's beside it; one on
-- which the method lost was rounded to nearest, and says fallback = "rtn".
-- @param model a model as it was trained
-- @param plan wane.gptq { bits = 4 }, ...; its format decides what type the scales are fitted in
-- @param calibration of wane.calibration; methods that work from the weights alone do without
-- @param given options: out, on_layer, progress, prove
-- @return model, with .quantization { method, label, bits, ..., layers, calibration, seconds, peak_bytes }
-- @error oom, numeric (NaN in weights or activations), format, unsupported, interrupted
local function quantize(model, plan, calibration, given)
  local o = options.check(spec, given, "wane.quantize")
  options.check_model(model, "wane.quantize")
  check_arguments(plan, calibration)
  check_source(model)
  if o.out then formats.check_destination(o.out) end
  local speaks = core.files.kind(model.dir .. "/tokenizer.json") ~= nil
  if o.prove and speaks then local _ = model.tokenizer end -- a broken one is told before the work, not after it
  core.device.reset_peak()
  local began = core.clock()
  local texts = calibration and calibration:bind(model)
  local bytes = planned(model, plan, texts)
  if o.on_plan then o.on_plan(bytes) end
  local run <close> = setmetatable({ model = model, plan = plan, results = {} }, closing)
  run.head = not plan.keep_lm_head and has_own_head(model) -- a tied head is the embedding, and stays
  run.format, run.scale, run.warning = formats.choose(model, plan, run.head)
  model:check()
  local count = math.tointeger(model.config.num_hidden_layers)
  local about
  run.texts = texts
  if calibration then run.pass, about = start(model, plan, calibration, texts) end
  if o.out and run.format then run.early = formats.begin(model, o.out, plan, run.format, run.head) end
  local layers = {}
  for i = 1, count do
    layers[i] = quantize_layer(run, i - 1, count)
    if run.early then run.early:layer(layers[i]) end
    if o.on_layer then o.on_layer(i, layers[i]) end
    if o.progress then o.progress(i, count, ("layer %d"):format(i)) end
  end
  local head <close> = run.head and quantize_head(run, count) or nil
  if run.early and head then run.early:head(head) end
  local small = core.quant.assemble(model, layers, head)
  local quantization = describe(run, layers[1], about, began)
  quantization.planned_bytes = bytes
  if run.warning then table.insert(quantization.warnings, run.warning) end
  core.model.set(small, "quantization", quantization)
  if o.prove and speaks then
    quantization.proof = require "wane.proof".of(model, small, run.texts)
  elseif o.prove then
    table.insert(quantization.warnings,
      "no tokenizer.json: the result was asked nothing, and not held against its source")
  end
  if run.early then
    formats.finish(run.early, small)
  elseif o.out then
    small:save(o.out)
  end
  return small
end

return setmetatable({ spec = spec }, { __call = function(_, ...) return quantize(...) end })
