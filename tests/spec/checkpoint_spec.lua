-- Folders that are no models, or not such that they may be quantized: the error objects say what and where.
local wane = require "wane"
local core = wane.core
local lfs = require "lfs"

local TINY <const> = "tests/reference/tiny/qwen3"
local Q_PROJ <const> = "model.layers.0.self_attn.q_proj.weight"

local dir

local function raises(code, ...)
  local ok, err = pcall(wane.load, dir)
  assert.is_false(ok)
  assert.equal(core.error, getmetatable(err), tostring(err))
  assert.equal(code, err.code, err.message)
  for _, text in ipairs { ... } do assert.is_truthy(err.message:find(text, 1, true), err.message) end
  assert.is_nil(err.message:find("[\n\27]"))
  return err
end

-- The tiny model's config with `fields` changed.
local function put_config(fields)
  local config = wane.json.decode(core.files.read(TINY .. "/config.json"))
  for name, value in pairs(fields or {}) do config[name] = value end
  core.files.write(dir .. "/config.json", wane.json.encode(config))
end

-- The tiny model's weights with `changed` instead or besides; false: left out.
local function put_weights(changed, file)
  local all = {}
  for _, entry in ipairs(wane.tensor.entries(TINY .. "/model.safetensors")) do
    all[entry.name] = wane.tensor.load(TINY .. "/model.safetensors", entry.name)
  end
  for name, tensor in pairs(changed or {}) do all[name] = tensor or nil end
  wane.tensor.save(dir .. "/" .. (file or "model.safetensors"), all)
end

before_each(function()
  dir = os.tmpname()
  os.remove(dir)
  assert(lfs.mkdir(dir))
end)

after_each(function() core.files.remove(dir) end)

describe("a source that is quantized already is refused", function()
  it("when config.json says so", function()
    put_config { quantization_config = { quant_method = "bitsandbytes", load_in_4bit = true } }
    put_weights { [Q_PROJ] = wane.tensor.zeros({ 4096, 1 }, { dtype = "u8" }) }
    local err = raises("unsupported", "bitsandbytes", Q_PROJ, "U8 (4096, 1)", "(128, 64)", "use the base model")
    assert.equal(Q_PROJ, err.tensor)
    assert.equal(dir .. "/config.json", err.path)
  end)

  it("when only the weights show it", function()
    put_config()
    put_weights { [Q_PROJ] = wane.tensor.zeros({ 4096, 1 }, { dtype = "u8" }) }
    local err = raises("unsupported", "model.safetensors", Q_PROJ, "U8 (4096, 1)", "(128, 64)", "use the base model")
    assert.equal(dir .. "/model.safetensors", err.path)
  end)

  it("when codes stand where weights should", function()
    put_config()
    local codes = wane.tensor.zeros({ 8, 128 }, { dtype = "i32" })
    put_weights { [Q_PROJ] = false, ["model.layers.0.self_attn.q_proj.qweight"] = codes }
    raises("unsupported", "q_proj.qweight", "quantized already")
  end)
end)

describe("a folder is refused", function()
  it("that is not there, or is a file", function()
    local ok, err = pcall(wane.load, dir .. "/no\nwhere")
    assert.is_false(ok)
    assert.equal("io", err.code)
    assert.is_truthy(err.message:find("no\\x0awhere: there is no such folder", 1, true), err.message)
    core.files.write(dir .. "/file", "")
    ok, err = pcall(wane.load, dir .. "/file")
    assert.is_false(ok)
    assert.is_truthy(err.message:find("is a file", 1, true), err.message)
    assert.error_matches(function() wane.load {} end, "wane.load takes a folder, not a table")
  end)

  it("without weights, or with weights that run code", function()
    put_config()
    raises("format", "has neither model.safetensors")
    core.files.write(dir .. "/pytorch_model.bin", "\x80\x02")
    raises("unsupported", "pytorch_model.bin", "Python objects")
  end)

  it("of a family that wane does not compute", function()
    put_config { model_type = "qwen4", architectures = { "Qwen4ForCausalLM" } }
    put_weights()
    raises("unsupported", "model_type \"qwen4\"", "qwen3, qwen2, llama, mistral")
  end)

  it("whose weights are of another model", function()
    put_config { intermediate_size = 128 }
    put_weights()
    raises("format", "mlp.down_proj.weight is BF16 (64, 160), expected (64, 128)")
  end)

  it("that lacks tensors, with the names that come near", function()
    put_config()
    local misspelt = "model.layers.0.self_attn.q_proj.wieght"
    put_weights { [Q_PROJ] = false, [misspelt] = wane.tensor.zeros { 128, 64 } }
    raises("format", "1 tensors are missing: " .. Q_PROJ, "nearest to the first: " .. misspelt)
  end)

  it("whose index leaves it", function()
    put_config()
    put_weights({}, "a.safetensors")
    for _, name in ipairs { "../a.safetensors", "/etc/passwd", "b/a.safetensors" } do
      core.files.write(dir .. "/model.safetensors.index.json",
        wane.json.encode { weight_map = { [Q_PROJ] = name } })
      raises("format", "not a plain file name")
    end
  end)

  it("that lacks shards, all of them named at once", function()
    put_config()
    core.files.write(dir .. "/model.safetensors.index.json",
      wane.json.encode { weight_map = { a = "1.safetensors", b = "2.safetensors" } })
    raises("format", "2 of 2 files are missing: 1.safetensors, 2.safetensors")
  end)
end)

describe("a folder with shards", function()
  it("gives the same logits as one file", function()
    put_config()
    put_weights({ [Q_PROJ] = false }, "b.safetensors")
    wane.tensor.save(dir .. "/a.safetensors", { [Q_PROJ] = wane.tensor.load(TINY .. "/model.safetensors", Q_PROJ) })
    local map = {}
    for _, entry in ipairs(wane.tensor.entries(TINY .. "/model.safetensors")) do
      map[entry.name] = entry.name == Q_PROJ and "a.safetensors" or "b.safetensors"
    end
    core.files.write(dir .. "/model.safetensors.index.json", wane.json.encode { weight_map = map })
    local m <close> = wane.load(dir)
    local whole <close> = wane.load(TINY)
    assert.equal(whole:logits { 1, 2, 3 }, m:logits { 1, 2, 3 })
    assert.same({}, m.warnings)
  end)
end)

describe("weights with NaN or Inf", function()
  it("are found by name, count and place", function()
    put_config()
    local numbers = wane.tensor.load(TINY .. "/model.safetensors", Q_PROJ):numbers()
    numbers[2][3], numbers[100][1] = 0 / 0, math.huge
    put_weights { [Q_PROJ] = wane.tensor.from(numbers, { dtype = "bf16" }) }
    local m <close> = wane.load(dir)
    local err = select(2, wane.try("numeric", m.check, m))
    assert.equal(Q_PROJ, err.tensor)
    assert.is_truthy(err.message:find("2 values that are NaN or Inf, the first at element 67", 1, true), err.message)
  end)
end)
