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

  it("that is the embedding stays, whatever is asked", function()
    local tied <close> = wane.load "tests/reference/tiny/qwen3"
    local small <close> = wane.quantize(tied, wane.hqq { group_size = 32, keep_lm_head = false }, nil, { prove = false })
    assert.equal(14, #small.quantization.layers)
    assert.equal(tied:tensor "model.embed_tokens.weight", small:tensor "model.embed_tokens.weight")
  end)
end)
