--- Checkpoints of chance: models of true shape with random weights, to measure speed and memory on.
--   wane.synth("Qwen3-4B", "out/qwen3-4b", { seed = 1 })
-- The folder is what Hugging Face would hold: config.json, bfloat16 safetensors in shards of 5 GB with their index, and
-- the tokenizer of another model, whose special tokens the config names. The same seed gives the same bytes.
local core = require "wane.core"
local options = require "wane.options"

local QWEN3 = { family = "qwen3", head_dim = 128, kv_heads = 8, vocabulary = 151936 }
local LLAMA = { family = "llama", kv_heads = 8, mlp = 8192, vocabulary = 128256 }

-- hidden size, layers, heads, and what the family does not say
local function shape(family, fields) return setmetatable(fields, { __index = family }) end

local shapes = {
  ["Qwen3-0.6B"] = shape(QWEN3, { hidden = 1024, layers = 28, heads = 16, mlp = 3072 }),
  ["Qwen3-1.7B"] = shape(QWEN3, { hidden = 2048, layers = 28, heads = 16, mlp = 6144 }),
  ["Qwen3-4B"] = shape(QWEN3, { hidden = 2560, layers = 36, heads = 32, mlp = 9728 }),
  ["Llama-3.2-1B"] = shape(LLAMA, { hidden = 2048, layers = 16, heads = 32, head_dim = 64 }),
  ["Llama-3.2-3B"] = shape(LLAMA, { hidden = 3072, layers = 28, heads = 24, head_dim = 128 }),
}

local NAMES = {}
for name in pairs(shapes) do NAMES[#NAMES + 1] = name end
table.sort(NAMES)

local spec = {
  { name = "seed", kind = "integer", default = 1, doc = "other weights for another number" },
  { name = "layers", kind = "integer", least = 1, doc = "so many, not as many as the model has" },
  { name = "tokenizer", kind = "string", default = "examples/models/lune-5m",
    doc = "folder of the tokenizer that goes beside" },
  { name = "shard_bytes", kind = "bytes", default = 5000000000, least = 1, doc = "most that one weight file holds" },
}

-- files of a tokenizer's folder that go along
local TEXT = { "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json" }

-- what the families' config.json have beyond the shape
local families = {
  qwen3 = { architectures = { "Qwen3ForCausalLM" }, max_position_embeddings = 40960, rms_norm_eps = 1e-6,
            rope_theta = 1000000, rope_scaling = core.json.null, sliding_window = core.json.null,
            use_sliding_window = false, transformers_version = "4.51.0", bos_token_id = 151643, eos_token_id = 151645 },
  llama = { architectures = { "LlamaForCausalLM" }, max_position_embeddings = 131072, rms_norm_eps = 1e-5,
            rope_theta = 500000.0, mlp_bias = false, pretraining_tp = 1, transformers_version = "4.45.0.dev0",
            bos_token_id = 128000, eos_token_id = 128001,
            rope_scaling = { factor = 32.0, high_freq_factor = 4.0, low_freq_factor = 1.0,
                             original_max_position_embeddings = 8192, rope_type = "llama3" } },
}

-- config.json as a table; ids of special tokens are the tokenizer's, where its folder tells them
local function config_of(about, layers, ids)
  local c = {
    attention_bias = false, attention_dropout = 0.0, hidden_act = "silu", initializer_range = 0.02,
    model_type = about.family, torch_dtype = "bfloat16", use_cache = true, tie_word_embeddings = true,
    hidden_size = about.hidden, intermediate_size = about.mlp, num_hidden_layers = layers, head_dim = about.head_dim,
    num_attention_heads = about.heads, num_key_value_heads = about.kv_heads, vocab_size = about.vocabulary,
  }
  for name, value in pairs(families[about.family]) do c[name] = value end
  if about.family == "qwen3" then c.max_window_layers = layers end
  for _, name in ipairs { "bos_token_id", "eos_token_id", "pad_token_id" } do c[name] = ids[name] or c[name] end
  return c
end

local function read_json(path)
  if core.files.kind(path) ~= "file" then return {} end
  return core.json.decode(core.files.read(path))
end

-- The shape of a name, or one that is given field by field.
local function find(name)
  if type(name) == "table" then return name end
  local found = shapes[name]
  if found then return found end
  local meant = core.options.nearest(tostring(name), NAMES)
  options.fail { code = "usage", message = ("there is no shape %s%s; there are %s"):format(tostring(name),
    meant and ("; did you mean %s?"):format(meant) or "", table.concat(NAMES, ", ")) }
end

local function fill(dir, about, o)
  local source = o.tokenizer
  if core.files.kind(source .. "/tokenizer.json") ~= "file" then
    options.fail { code = "io", path = source, message = ("%s has no tokenizer.json; name a model's folder with "
      .. "tokenizer = (--tokenizer)"):format(source) }
  end
  core.files.mkdir(dir)
  for _, name in ipairs(TEXT) do
    local from = source .. "/" .. name
    if core.files.kind(from) == "file" then core.files.write(dir .. "/" .. name, core.files.read(from)) end
  end
  local config = config_of(about, o.layers or about.layers, read_json(source .. "/config.json"))
  core.files.write(dir .. "/config.json", core.json.encode(config, { indent = 2 }) .. "\n")
  return core.save.synth(dir, o.seed, o.shard_bytes)
end

--- Writes a checkpoint to a folder that is not there yet.
-- @param name one of wane.synth.names, or a shape: { family = "qwen3", hidden, layers, heads, kv_heads, head_dim, mlp,
-- vocabulary }
-- @param dir string
-- @param given options: seed, layers, tokenizer, shard_bytes
-- @return { dir, bytes, seconds }
-- @error usage, io, interrupted
local function synth(name, dir, given)
  local o = options.check(spec, given, "wane.synth")
  local about = find(name)
  if type(dir) ~= "string" then error("wane.synth takes a folder to write to second", 2) end
  dir = #dir > 1 and dir:gsub("/+$", "") or dir
  if core.files.kind(dir) then
    options.fail { code = "io", path = dir, message = dir .. " is there already; wane does not write over it" }
  end
  local began, partial = core.clock(), ("%s.partial-%d"):format(dir, core.system.machine().pid)
  local ok, bytes = xpcall(function()
    local written = fill(partial, about, o)
    core.files.rename(partial, dir)
    return written
  end, core.traceback)
  if not ok then
    core.files.remove(partial)
    error(bytes, 0)
  end
  return { dir = dir, bytes = bytes, seconds = core.clock() - began }
end

return setmetatable({ options = spec, names = NAMES }, { __call = function(_, ...) return synth(...) end })
