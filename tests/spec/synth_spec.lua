-- Checkpoints of chance: whole and sound, the same bytes for a seed whatever the threads, with loud channels that
-- methods find, and nothing left behind where writing fails.
local wane = require "wane"
local core = wane.core
local process = require "support.process"

local TINY = { family = "qwen3", hidden = 512, layers = 2, heads = 4, kv_heads = 2, head_dim = 32, mlp = 768,
               vocabulary = 1200 }

local folder
before_each(function() folder = process.folder() end)
after_each(function() os.execute("rm -r " .. folder) end)

local function hash(dir)
  local all = {}
  for i, name in ipairs(core.files.list(dir)) do all[i] = name .. core.files.sha256_file(dir .. "/" .. name) end
  return table.concat(all, "\n")
end

local function refused(code, ...)
  local ok, err = pcall(wane.synth, ...)
  assert.is_false(ok)
  assert.equal(code, err.code, tostring(err))
  return err.message
end

describe("wane.synth", function()
  it("writes a model that loads, answers and is as large as it says", function()
    local done = wane.synth(TINY, folder .. "/a")
    local m <close> = wane.load(folder .. "/a")
    assert.equal(2 * m.parameters, done.bytes)
    assert.equal(1200 * 512 + 512 + 2 * (2 * 512 + 2 * 32 + 512 * (4 + 2 + 2 + 4) * 32 + 3 * 512 * 768), m.parameters)
    assert.equal(m, m:check())
    assert.same({}, m.warnings)
    local answers = m:generate({ "What is 2 times 3?", "Hello" }, { max_tokens = 5 })
    assert.is_true(answers[1].tokens > 0 and answers[2].tokens > 0)
    local logits = m:logits { 5, 6, 7 }
    local size = logits:norm() / math.sqrt(3 * 1200)
    assert.is_true(size > 1 and size < 6, "logits of about " .. size)
  end)

  it("writes Llama's families too, in fewer layers where asked", function()
    local shape = setmetatable({ family = "llama", layers = 9 }, { __index = TINY })
    wane.synth(shape, folder .. "/a", { layers = 1 })
    local m <close> = wane.load(folder .. "/a")
    assert.equal(1, m.config.num_hidden_layers)
    assert.equal("llama3", m.config.rope_scaling.rope_type)
    assert.is_true(m:logits({ 1, 2 }):norm() > 0)
  end)

  it("gives the same bytes for a seed, however many threads there are", function()
    local code = ("require('wane').synth({ family = 'qwen3', hidden = 512, layers = 2, heads = 4, kv_heads = 2, "
      .. "head_dim = 32, mlp = 768, vocabulary = 1200 }, arg[1], { seed = math.tointeger(arg[2]) })")
    for i, how in ipairs { { 1, "7" }, { 2, "7" }, { 2, "8" } } do
      local r = process.run_wane({ "-e", code, ("%s/%d"):format(folder, i), how[2] }, "", "env OMP_NUM_THREADS=" .. how[1])
      assert.equal(0, r.code, r.err)
    end
    assert.equal(hash(folder .. "/1"), hash(folder .. "/2"))
    assert.not_equal(hash(folder .. "/1"), hash(folder .. "/3"))
  end)

  it("cuts shards that go over a size, with their index, into the same weights", function()
    wane.synth(TINY, folder .. "/one")
    wane.synth(TINY, folder .. "/many", { shard_bytes = 2000000 })
    local index = core.json.decode(core.files.read(folder .. "/many/model.safetensors.index.json"))
    assert.equal("model-00002-of-00004.safetensors", index.weight_map["model.layers.0.mlp.up_proj.weight"])
    local one <close> = wane.load(folder .. "/one")
    local many <close> = wane.load(folder .. "/many")
    assert.equal(one:weights()[3].bytes, many:weights()[3].bytes)
    for _, w in ipairs(one:weights()) do assert.equal(one:tensor(w.name), many:tensor(w.name)) end
    assert.equal(index.metadata.total_size, 2 * one.parameters)
  end)

  it("has loud channels, which awq finds", function()
    wane.synth(TINY, folder .. "/a")
    local m <close> = wane.load(folder .. "/a")
    local gains, loud = m:tensor("model.layers.0.input_layernorm.weight"):numbers(), 0
    for _, gain in ipairs(gains) do loud = loud + (gain > 6 and 1 or 0) end
    assert.is_true(loud >= 1 and loud <= 16, loud .. " loud channels")
    local set = wane.calibration { file = "examples/data/calibration.jsonl", samples = 8, force = true }
    local small <close> = wane.quantize(m, wane.awq { bits = 4, group_size = 128 }, set, { prove = false })
    assert.is_true(small.quantization.error < 0.98 * small.quantization.rtn_error)
  end)

  it("says what it cannot do, and leaves nothing", function()
    assert.matches("did you mean Qwen3%-4B%?", refused("usage", "Qwen3-4b", folder .. "/a"))
    assert.matches("%-%-tokenizer", refused("io", TINY, folder .. "/a", { tokenizer = folder }))
    assert.matches("there already", refused("io", TINY, folder))
    core.device.interrupt()
    assert.is_truthy(refused("interrupted", TINY, folder .. "/a"))
    core.device.interrupt(false)
    refused("format", setmetatable({ heads = 3 }, { __index = TINY }), folder .. "/a")
    assert.same({}, core.files.list(folder))
  end)

  it("is a command", function()
    local r = process.run_wane { "synth", "Qwen3-5B", folder .. "/a" }
    assert.equal(2, r.code)
    assert.matches("there are Llama%-3.2%-1B, Llama%-3.2%-3B, Qwen3%-0.6B, Qwen3%-1.7B, Qwen3%-4B", r.err)
    assert.matches("%-%-seed N", process.run_wane({ "synth", "--help" }).out)
  end)
end)
