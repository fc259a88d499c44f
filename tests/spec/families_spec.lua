-- Every family, in every dtype that checkpoints have: logits against those of Transformers
-- (tests/reference/families.py). A checkpoint is made of the file's tensors in a folder of its own.
local wane = require "wane"
local device = require "support.device"
local folders = require "support.families"

local REFERENCE <const> = "tests/reference/families.safetensors"

-- how far a is from b, relative to b
local function distance(a, b) return (a - b):norm() / b:norm() end

local function row(tensor, i)
  local ids = tensor[i]:numbers()
  for k, id in ipairs(ids) do ids[k] = math.tointeger(id) end
  return ids
end

local function logits_of(model, name)
  local ids, worst = wane.tensor.load(REFERENCE, name .. ".ids"), 0
  local expected = wane.tensor.load(REFERENCE, name .. ".logits")
  for i = 1, ids.shape[1] do worst = math.max(worst, distance(model:logits(row(ids, i)), expected[i])) end
  return worst
end

describe("Transformers' logits", function()
  for _, name in ipairs(folders.names()) do
    it("are met by " .. name, function()
      local dir <close> = folders.make(name)
      local model <close> = wane.load(dir.path)
      local worst = logits_of(model, name)
      assert.is_true(worst < device.near(1e-5), ("%s: %.3g"):format(name, worst))
    end)
  end

  it("are of five families, in three dtypes and mixed", function()
    local seen = {}
    for _, name in ipairs(folders.names()) do seen[name] = true end
    for family in ("qwen2 qwen3 llama3 smollm2 mistral"):gmatch "%w+" do
      for dtype in ("bf16 f16 f32 mixed"):gmatch "%w+" do assert.is_true(seen[family .. "." .. dtype]) end
    end
  end)

  it("would show a bias, a norm or a frequency that is left out", function()
    for name, change in pairs {
      ["qwen3.f32"] = function(config) config.rope_parameters.rope_theta = 1e5 end,
      ["llama3.f32"] = function(config) config.rope_parameters.low_freq_factor = 2.0 end,
      ["llama_bias.f32"] = function(config) config.rope_parameters.factor = 2.0 end,
      ["mistral.f32"] = function(config) config.rms_norm_eps = 1e-2 end,
    } do
      local dir <close> = folders.make(name, { config = change })
      local model <close> = wane.load(dir.path)
      assert.is_true(logits_of(model, name) > 1e-3, name)
    end
    local dir <close> = folders.make("qwen2.f32", { tensors = function(all)
      local bias = "model.layers.1.self_attn.k_proj.bias"
      all[bias] = all[bias] * 0
    end })
    local model <close> = wane.load(dir.path)
    assert.is_true(logits_of(model, "qwen2.f32") > 1e-3)
  end)
end)
