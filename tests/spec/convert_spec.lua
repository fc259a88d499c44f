-- From one format to another, from Lua and from the command line: the same weights, the same files beside them, and a
-- reason where it cannot be.
local wane = require "wane"
local process = require "support.process"
local core = wane.core

local dir = process.folder()
teardown(function() os.execute("rm -r " .. process.quote(dir)) end)

local LUNE = "examples/models/lune-1m"
local IDS = { 1, 7, 300, 5, 5, 19 }
local MATRIX = "model.layers.1.mlp.down_proj.weight"

local numbered = 0
local function place()
  numbered = numbered + 1
  return ("%s/out%d"):format(dir, numbered)
end

local function quantized(source, plan, calibration)
  local model <close> = wane.load(source)
  local small <close> = wane.quantize(model, plan, calibration, { prove = false })
  local out = place()
  small:save(out, { format = "compressed-tensors" })
  return out
end

local function refused(code, message, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.equal(code, type(err) == "table" and err.code or type(err))
  assert.is_truthy(tostring(err):find(message, 1, true), tostring(err))
end

describe("converting", function()
  local symmetric, zeros
  lazy_setup(function()
    symmetric = quantized(LUNE, wane.rtn { bits = 4, symmetric = true })
    zeros = quantized(LUNE, wane.rtn { bits = 4 })
  end)

  for _, format in ipairs { "awq", "gptq", "gptq-v2", "hqq", "compressed-tensors" } do
    it("to " .. format .. " changes no weight, no file beside and no logit", function()
      local source = format == "gptq" and symmetric or zeros
      local out = place()
      local told = wane.convert(source, out, { format = format })
      assert.same({ format, out, 0, 0.0 }, { told.format, told.dir, told.rounded, told.largest_change })
      assert.equal(core.files.size(out .. "/model.safetensors"), told.bytes)
      local before <close> = wane.load(source)
      local after <close> = wane.load(out)
      assert.is_true(before:tensor(MATRIX) == after:tensor(MATRIX))
      assert.is_true(before:logits(IDS) == after:logits(IDS))
      assert.same({ format, "rtn", 4, 64, 28 }, { after.quantization.format, after.quantization.method,
        after.quantization.bits, after.quantization.group_size, #after.quantization.layers })
      for _, name in ipairs(core.files.list(source)) do
        if not name:find("safetensors") and name ~= "config.json" and name ~= "wane.json" and name ~= "SHA256SUMS" then
          assert.equal(core.files.sha256_file(source .. "/" .. name), core.files.sha256_file(out .. "/" .. name), name)
        end
      end
      assert.equal(#core.files.list(source), #core.files.list(out))
    end)
  end

  it("by way of every format gives the same again", function()
    local last = symmetric
    for _, format in ipairs { "gptq", "hqq", "awq", "gptq-v2", "compressed-tensors" } do
      local out = place()
      wane.convert(last, out, { format = format })
      last = out
    end
    local before <close> = wane.load(symmetric)
    local after <close> = wane.load(last)
    assert.equal(before.quantization.label, after.quantization.label)
    assert.is_true(before:logits(IDS) == after:logits(IDS))
  end)

  it("to dense says how far the weights moved", function()
    for dtype, most in pairs { bf16 = 2^-8, f16 = 2^-11, f32 = 0.0 } do
      local out = place()
      local told = wane.convert(zeros, out, { format = "dense", dtype = dtype })
      assert.is_true(told.largest_change <= most, dtype)
      assert.equal(dtype == "f32", told.rounded == 0)
      local before <close> = wane.load(zeros)
      local after <close> = wane.load(out)
      assert.is_nil(after.quantization)
      assert.is_nil(core.files.kind(out .. "/wane.json"))
      local a, b = before:tensor(MATRIX), after:tensor(MATRIX)
      assert.equal(dtype, b.dtype)
      assert.is_true((a - b):norm() <= most * a:norm())
    end
    local out = place()
    wane.convert(zeros, out, { format = "dense" })
    local plain <close> = wane.load(out)
    assert.equal("bf16", plain:tensor(MATRIX).dtype)
    local again <close> = wane.quantize(plain, wane.rtn { bits = 4 }, nil, { prove = false }) -- it is a source again
    assert.equal("rtn w4 g64", again.quantization.label)
  end)

  it("is refused where the format cannot hold the codes, and says which can", function()
    local few = wane.calibration { file = "examples/data/calibration.jsonl", samples = 4, tokens = 32, force = true }
    local w3, w8a8 = quantized(LUNE, wane.rtn { bits = 3 }), quantized(LUNE, wane.smoothquant { alpha = 0.5 }, few)
    refused("unsupported", "format compressed-tensors holds", wane.convert, w3, place(), { format = "awq" })
    refused("unsupported", "format awq holds 4-bit ones", wane.convert, zeros, place(), { format = "gptq" })
    refused("unsupported", "compressed-tensors holds W8A8", wane.convert, w8a8, place(), { format = "gptq" })
    refused("unsupported", "8-bit activations", wane.convert, w8a8, place(), { format = "dense" })
    refused("unsupported", "is not quantized", wane.convert, LUNE, place(), { format = "awq" })
    refused("io", "is there already", wane.convert, zeros, symmetric, { format = "awq" })
    refused("io", "nowhere", wane.convert, dir .. "/nowhere", place(), { format = "awq" })
    refused("string", "wane.convert needs format", wane.convert, zeros, place())
    refused("string", "did you mean awq?", wane.convert, zeros, place(), { format = "awk" })
  end)

  it("is refused where a report is damaged", function()
    local lie = place()
    os.execute(("cp -r %s %s"):format(zeros, lie))
    core.files.write(lie .. "/wane.json", "[1")
    refused("format", "wane.json", wane.convert, lie, place(), { format = "awq" })
    for text, wrong in pairs {
      ["7"] = "it must be an object", ["[1]"] = "it must be an object", ['{"method":{}}'] = "method must be text",
      ['{"layers":5}'] = "layers must be a list", ['{"layers":[{"name":"x","error":"y"}]}'] = "layers[1].error must be",
      ['{"proof":{"notes":[1]}}'] = "proof.notes[1] must be text", ['{"warnings":{"a":"b"}}'] = "warnings must be a list",
      ['{"calibration":{"samples":-1}}'] = "calibration.samples must be a whole number from 0",
    } do
      core.files.write(lie .. "/wane.json", text)
      refused("format", "wane.json is not a report of wane's: " .. wrong, wane.convert, lie, place(), { format = "awq" })
    end
    core.files.write(lie .. "/wane.json", '{"method":null,"more":[null]}')
    assert.is_table(wane.convert(lie, place(), { format = "awq" }))
  end)

  it("is a command", function()
    local out = place()
    local done = process.run(("env WANE_DEVICE=cpu %s convert %s %s --format awq"):format(process.wane, zeros, out))
    assert.same({ 0, "" }, { done.code, done.err })
    assert.is_truthy(done.out:find("every weight is what it was", 1, true))
    done = process.run(("%s convert %s %s --format dense --dtype bf16 --json"):format(process.wane, zeros, place()))
    local told = core.json.decode(done.out)
    assert.is_true(told.rounded > 0 and told.largest_change < 2^-8)
    assert.equal(3, process.run(("%s convert %s %s --format gptq"):format(process.wane, zeros, place())).code)
    assert.equal(2, process.run(("%s convert %s %s"):format(process.wane, zeros, place())).code)
    assert.equal(6, process.run(("%s convert %s %s --format awq"):format(process.wane, zeros, out)).code)
  end)
end)
