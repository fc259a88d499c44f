--- Models as scripts use them: loading one, its layers by name, its tokenizer.
-- Methods and fields that are made of others live here; the rest is in C (runtime/bind/model.c).
local core = require "wane.core"
require "wane.generate" -- methods: generate, chat, score, perplexity, divergence

local model = {}

-- A part of a layer: indexing goes deeper, "weight" and "bias" are tensors, read when asked for.
local part = {}
part.__index = function(self, key)
  if type(key) ~= "string" then return nil end
  local name = rawget(self, "name") .. "." .. key
  if key == "weight" or key == "bias" then return rawget(self, "model"):tensor(name) end
  return setmetatable({ model = rawget(self, "model"), name = name }, part)
end
part.__tostring = function(self) return rawget(self, "name") end
part.__newindex = function() error("a model is not changed in place", 2) end

--- model.layers[1].mlp.down_proj.weight: layers count from 1, names below are those of the checkpoint.
function core.model.fields.layers(self)
  local count = math.tointeger(self.config.num_hidden_layers)
  return setmetatable({}, {
    __len = function() return count end,
    __newindex = part.__newindex,
    __index = function(_, i)
      if math.type(i) ~= "integer" or i < 1 or i > count then return nil end
      return setmetatable({ model = self, name = ("model.layers.%d"):format(i - 1) }, part)
    end,
  })
end

--- model.tokenizer: that of the model's folder, read when first asked for.
function core.model.fields.tokenizer(self) return require "wane.tokenizer"(self.dir) end

--- model.quantization: how a quantized model is stored and what making it cost; nil for one that is as trained.
function core.model.fields.quantization(self) return require "wane.formats".quantization(self) end

core.docs["model.save"] = "model:save(dir, { format = \"compressed-tensors\", shard_bytes }) -> { dir, bytes, "
  .. "bits_per_weight }; raises io, unsupported, oom"

--- Writes a quantized model to a folder that is not there yet. See wane.formats.
function core.model.methods.save(self, dir, given) return require "wane.formats".save(self, dir, given) end

--- Opens a model. Headers and config are checked; no weight is read before it is needed.
-- @param where string  a folder with config.json and safetensors, or an id of the Hub: "Qwen/Qwen3-1.7B@main"
-- @return model
-- @error io, format, unsupported (a family or a quantization that wane does not compute), network
-- @usage local m <close> = wane.load "examples/models/lune-1m"
function model.load(where)
  if type(where) ~= "string" then error("wane.load takes a folder, not a " .. type(where), 2) end
  local dir = require "wane.hub".folder(where) or where
  local meant = not core.files.kind(dir) and require "wane.paths".near(dir)
  if not meant then return core.model.open(dir) end
  local shown = require "wane.fingerprint".shown
  return require "wane.options".fail { code = "io", path = dir,
    message = ("%s: there is no such folder; did you mean %s?"):format(shown(dir), shown(meant)) }
end

return model
