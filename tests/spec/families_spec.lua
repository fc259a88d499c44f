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
      ["qwen3_yarn.bf16"] = function(config) config.rope_parameters.attention_factor = 1.0 end,
      ["llama_yarn.bf16"] = function(config) config.rope_parameters.truncate = true end,
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

-- lune-1m with its weights in other types; dtype_of(name) -> dtype
local function recast(dtype_of)
  local source, folder, all = "examples/models/lune-1m", folders.folder(), {}
  for _, name in ipairs(wane.core.files.list(source)) do
    if not name:find "safetensors$" then
      wane.core.files.write(folder.path .. "/" .. name, wane.core.files.read(source .. "/" .. name))
    end
  end
  for _, entry in ipairs(wane.tensor.entries(source .. "/model.safetensors")) do
    local w = wane.tensor.load(source .. "/model.safetensors", entry.name)
    all[entry.name] = w:to(dtype_of(entry.name))
  end
  wane.tensor.save(folder.path .. "/model.safetensors", all)
  return folder
end

local SOURCES <const> = {
  f32 = function() return "f32" end,
  f16 = function() return "f16" end,
  mixed = function(name) return name:find "norm" and "f32" or name:find "mlp" and "f16" or "bf16" end,
}

describe("a model that is stored in", function()
  local calib = wane.calibration { file = "examples/data/calibration.jsonl", samples = 48, tokens = 128 }
  local ids = { 5, 100, 300, 7, 900, 42, 13, 500 }
  local plans = {
    rtn = wane.rtn { bits = 4, group_size = 64 }, hqq = wane.hqq { bits = 4, group_size = 64 },
    awq = wane.awq { bits = 4, group_size = 64 }, gptq = wane.gptq { bits = 4, group_size = 64 },
    smoothquant = wane.smoothquant { bits = 8 },
  }
  local bf16 = {}

  setup(function()
    local model <close> = wane.load "examples/models/lune-1m"
    bf16.logits = model:logits(ids)
    for name, plan in pairs(plans) do
      local small <close> = wane.quantize(model, plan, calib, { prove = false })
      bf16[name] = small.quantization.error
    end
  end)

  for dtype, dtype_of in pairs(SOURCES) do
    it(dtype .. " computes what it computes in bf16", function()
      local dir <close> = recast(dtype_of)
      local model <close> = wane.load(dir.path)
      assert.is_true(distance(model:logits(ids), bf16.logits) < device.near(dtype == "f32" and 1e-6 or 1e-4))
    end)

    local few = { gptq = plans.gptq, hqq = plans.hqq } -- and all of them where matrices differ in type
    for name, plan in pairs(dtype == "mixed" and plans or few) do
      it(("%s is quantized by %s, saved and read as well as from bf16"):format(dtype, name), function()
        local dir <close> = recast(dtype_of)
        local model <close> = wane.load(dir.path)
        local small <close> = wane.quantize(model, plan, calib, { prove = false })
        local ratio = small.quantization.error / bf16[name]
        assert.is_true(ratio > 0.95 and ratio < 1.05, ("%.4f times the error"):format(ratio))
        local out = dir.path .. "-small"
        small:save(out)
        local back <close> = wane.load(out)
        local far = distance(back:logits(ids), small:logits(ids))
        back:close()
        wane.core.files.remove(out)
        assert.is_true(far < 1e-6, tostring(far))
      end)
    end
  end
end)
