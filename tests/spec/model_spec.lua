-- Models from Lua: what can be asked of one, logits, budgets, failures that leave nothing behind.
local wane = require "wane"
local core = wane.core
local device = require "support.device"

local MODELS <const> = "examples/models/lune-"
local MIB <const> = 1 << 20

-- how far a is from b, relative to b
local function distance(a, b) return (a - b):norm() / b:norm() end

local function ids_of(tensor)
  local ids = tensor:numbers()
  for i, id in ipairs(ids) do ids[i] = math.tointeger(id) end
  return ids
end

describe("a model", function()
  local m
  setup(function() m = wane.load(MODELS .. "5m") end)
  teardown(function() m:close() end)

  it("prints what it is", function()
    assert.equal("model qwen3   6 layers   5.2 M weights   bf16   9.88 MiB on disk", tostring(m))
  end)

  it("knows its folder, its size and its config", function()
    assert.equal(MODELS .. "5m", m.dir)
    assert.equal(5181440, m.parameters)
    assert.equal(2 * m.parameters + 32 * 4, m.bytes) -- bf16, and the rope frequencies
    assert.equal(256, m.config.hidden_size)
    assert.equal(wane.json.null, m.config.sliding_window)
    assert.equal(m.config, m.config)
    assert.same({ 1021 }, m.eos)
    assert.same({}, m.warnings)
    assert.is_nil(m.something)
  end)

  it("lists its weights as the files hold them", function()
    local list, bytes = m:weights(), 0
    for _, w in ipairs(list) do bytes = bytes + w.bytes end
    assert.equal(2 * m.parameters, bytes)
    assert.same({ name = "model.embed_tokens.weight", dtype = "bf16", shape = { 1024, 256 }, bytes = 524288 },
      list[1])
  end)

  it("gives a weight by the path of names", function()
    local w = m.layers[1].mlp.down_proj.weight
    assert.equal("bf16", w.dtype)
    assert.same({ 256, 640 }, { w.shape[1], w.shape[2] })
    local stored = wane.tensor.load(MODELS .. "5m/model.safetensors", "model.layers.0.mlp.down_proj.weight")
    assert.equal(stored, w)
    assert.equal(6, #m.layers)
    assert.is_nil(m.layers[0])
    assert.is_nil(m.layers[7])
    assert.is_nil(m.layers.x)
    assert.equal(m.layers[6].self_attn.q_norm.weight, m:tensor "model.layers.5.self_attn.q_norm.weight")
  end)

  it("says which name was meant", function()
    assert.error_matches(function() return m.layers[1].mlp.down_pro.weight end,
      "no tensor model.layers.0.mlp.down_pro.weight; did you mean model.layers.0.mlp.down_proj.weight%?")
    assert.error_matches(function() return m:tensor "lm_head.weight" end, "no tensor lm_head.weight")
    assert.error_matches(function() m.layers[1].mlp = 1 end, "not changed in place")
  end)

  it("refuses ids that are none", function()
    assert.error_matches(function() m:logits { 1, 1024 } end, "token 2 has id 1024; the vocabulary has 1024")
    assert.error_matches(function() m:logits { 1, -1 } end, "entry 2 is not a token id")
    assert.error_matches(function() m:logits { 1.5 } end, "entry 1 is not a token id")
    assert.error_matches(function() m:logits { "a" } end, "entry 1 is not a token id")
    assert.error_matches(function() m:logits {} end, "0 tokens")
    assert.error_matches(function() m:logits "text" end, "table expected")
  end)

  it("finds no NaN in its weights", function() assert.equal(m, m:check()) end)
end)

describe("logits", function()
  for _, size in ipairs { "5m", "3m", "1m" } do
    it("of lune-" .. size .. " are those of Transformers", function()
      local m <close> = wane.load(MODELS .. size)
      local file = ("tests/reference/lune-%s.safetensors"):format(size)
      for _, task in ipairs { "arc", "boolq", "squad_v2", "openmath" } do
        local got = m:logits(ids_of(wane.tensor.load(file, task .. ".ids")))
        assert.is_true(distance(got, wane.tensor.load(file, task .. ".logits")) < device.near(1e-5))
      end
    end)
  end

  it("outlive the model", function()
    local m = wane.load(MODELS .. "1m")
    local y, w = m:logits { 1, 2 }, m.layers[1].mlp.up_proj.weight
    m:close()
    m:close()
    assert.equal("model (closed)", tostring(m))
    assert.is_true(y:norm() > 0)
    assert.same({ 384, 128 }, { w.shape[1], w.shape[2] })
    assert.error_matches(function() return m.dir end, "this model is closed")
    assert.error_matches(function() m:logits { 1 } end, "this model is closed")
  end)
end)

describe("memory", function()
  local function live() collectgarbage() collectgarbage() return core.device.live() end

  after_each(function()
    core.device.fail_after(nil)
    core.device.open()
  end)

  it("comes back when a model is closed", function()
    local before = live()
    do
      local m <close> = wane.load(MODELS .. "1m")
      assert.equal(before, live()) -- nothing is read before it is needed
      assert.equal(m, m:load())
      assert.equal(before + m.bytes, live())
      m:unload()
      assert.equal(before, live())
      m:logits { 1, 2, 3 }
    end
    assert.equal(before, live())
  end)

  it("is bounded: the large model says what it needs, the next one runs in the same process", function()
    wane.device { name = "cpu", memory = "10MiB" }
    local large <close> = wane.load(MODELS .. "5m")
    local err = select(2, wane.try("oom", large.load, large))
    assert.equal("oom", err.code)
    assert.equal("load", err.op)
    assert.equal("cpu", err.device)
    assert.equal(large.bytes, err.requested)
    assert.is_true(err.free < err.requested and err.free > 8 * MIB)
    assert.equal(10 * MIB, err.free + core.device.live())
    assert.is_truthy(err.message:find("lune-5m takes 9.88 MiB", 1, true), err.message)
    local small <close> = wane.load(MODELS .. "3m")
    local y = small:logits { 1, 2, 3 }
    assert.equal(3, y.shape[1])
    local long = {}
    for i = 1, 640 do long[i] = i end
    err = select(2, wane.try("oom", small.logits, small, long)) -- 2.5 MiB of logits, as much of keys and values
    assert.equal("logits", err.op)
    assert.is_true(err.requested > 5 * MIB and err.requested > err.free)
    assert.equal(320, small:logits({ table.unpack(long, 1, 320) }).shape[1])
    assert.is_true(core.device.info().peak <= 10 * MIB)
  end)

  it("is as before, whichever allocation fails", function()
    local m <close> = wane.load "tests/reference/tiny/llama3"
    local before, n = live(), 0
    local err
    repeat
      core.device.fail_after(n, false, 2) -- twice: the second try after collecting garbage fails too
      err = select(2, wane.try("oom", m.logits, m, { 1, 2, 3 }))
      core.device.fail_after(nil)
      m:unload()
      assert.equal(before, live())
      n = n + 1
    until not err
    assert.is_true(n > 30)
  end)
end)
