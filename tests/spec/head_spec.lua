-- keep_lm_head = false: an output head of its own is quantized too; one that is the embedding stays.
local wane = require "wane"

local SOURCE = "tests/reference/tiny/llama3" -- a head of its own: (320, 64)

describe("the output head", function()
  local folder = os.tmpname()
  local model, ids
  setup(function()
    os.remove(folder)
    wane.files.mkdir(folder)
    model = wane.load(SOURCE)
    ids = {}
    for i = 1, 24 do ids[i] = i * 7 % 320 end
  end)
  teardown(function()
    model:close()
    wane.files.remove(folder)
  end)

  local function quantized(options)
    options.bits, options.group_size = 4, 32
    return wane.quantize(model, wane.hqq(options), nil, { prove = false })
  end

  it("stays as it is unless told otherwise", function()
    local small <close> = quantized {}
    assert.equal(14, #small.quantization.layers)
    small:save(folder .. "/kept")
    local saved <close> = wane.load(folder .. "/kept")
    assert.same({ "lm_head" }, { table.unpack(saved.config.quantization_config.ignore) })
    assert.equal(model:tensor "lm_head.weight", saved:tensor "lm_head.weight")
  end)

  it("becomes codes, with its own row in the report, and computes on them", function()
    local small <close> = quantized { keep_lm_head = false }
    local last = small.quantization.layers[15]
    assert.equal("lm_head", last.name)
    assert.is_true(last.error > 0 and last.error <= last.rtn_error)
    small:save(folder .. "/small")
    local saved <close> = wane.load(folder .. "/small")
    assert.equal(0, #saved.config.quantization_config.ignore)
    assert.equal(small:logits(ids), saved:logits(ids))
    assert.equal(small:tensor "lm_head.weight", saved:tensor "lm_head.weight")
    assert.is_true(saved.bytes < model.bytes / 2)
    local distance = (small:tensor "lm_head.weight" - model:tensor "lm_head.weight"):norm()
    local size = model:tensor "lm_head.weight":norm()
    assert.is_true(distance > 0 and distance / size < 0.12, distance / size)
  end)

  it("is what a format may not hold, by its name; and GPTQ's are for whoever asks for them", function()
    local choose = wane.formats.choose
    local name, _, warning = choose(model, wane.awq { group_size = 32, keep_lm_head = false }, true)
    assert.equal("compressed-tensors", name)
    assert.matches("^lm_head: format awq", warning)
    name, _, warning = choose(model, wane.gptq { bits = 8, group_size = 32, keep_lm_head = false }, true)
    assert.equal("compressed-tensors", name)
    assert.matches("made for compressed%-tensors instead", warning)
    assert.same({ "compressed-tensors" }, { choose(model, wane.hqq { group_size = 32, keep_lm_head = false }, true) })
  end)

  it("that is the embedding stays, whatever is asked", function()
    local tied <close> = wane.load "tests/reference/tiny/qwen3"
    local small <close> = wane.quantize(tied, wane.hqq { group_size = 32, keep_lm_head = false }, nil, { prove = false })
    assert.equal(14, #small.quantization.layers)
    assert.equal(tied:tensor "model.embed_tokens.weight", small:tensor "model.embed_tokens.weight")
    -- and is not written twice, though the source may have done so
    local source = folder .. "/twice"
    os.execute(("cp -r tests/reference/tiny/qwen3 %s && rm %s/expected.safetensors"):format(source, source))
    local all = {}
    for _, entry in ipairs(wane.tensor.entries(source .. "/model.safetensors")) do
      all[entry.name] = wane.tensor.load(source .. "/model.safetensors", entry.name)
    end
    all["lm_head.weight"] = all["model.embed_tokens.weight"]
    wane.tensor.save(source .. "/model.safetensors", all)
    for _, format in ipairs { "compressed-tensors", "awq", "hqq" } do
      local model_twice <close> = wane.load(source)
      local again <close> = wane.quantize(model_twice, wane.hqq { group_size = 32, format = format }, nil, { prove = false })
      again:save(folder .. "/once-" .. format)
      local saved <close> = wane.load(folder .. "/once-" .. format)
      assert.is_true(saved.config.tie_word_embeddings)
      for _, entry in ipairs(wane.tensor.entries(folder .. "/once-" .. format .. "/model.safetensors")) do
        assert.is_nil(entry.name:find "^lm_head", entry.name)
      end
      local q = saved.config.quantization_config
      assert.same({ "lm_head" }, { table.unpack(q.ignore or q.modules_to_not_convert or q.skip_modules) })
    end
  end)
end)
