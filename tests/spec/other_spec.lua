-- Checkpoints that other programs wrote (tests/reference/other_formats.py): wane reads from them the weights that those
-- programs keep, bit by bit, and can write them anew.
local wane = require "wane"
local process = require "support.process"
local core = wane.core

local dir = process.folder()
teardown(function() os.execute("rm -r " .. process.quote(dir)) end)

local OTHER = "tests/reference/other/"
local MATRICES = { "model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.v_proj.weight" }
local IDS = { 1, 7, 30, 5, 5, 19 }

local function expected(name, matrix)
  return wane.tensor.load(OTHER .. name .. "/expected.safetensors", matrix)
end

describe("a checkpoint that another program wrote", function()
  -- its folder, the format and grid that it is, and a format that holds its codes besides
  for _, row in ipairs {
    { "ct-sym", "compressed-tensors", "unknown w4 g32 sym", "gptq" },
    { "ct-zeros", "compressed-tensors", "unknown w4 g32", "awq" },
    { "ct-w8", "compressed-tensors", "unknown w8 row sym", "gptq" },
    { "ct-w8a8", "compressed-tensors", "unknown w8a8" },
    { "gptq", "gptq", "unknown w4 g32 sym", "awq" },
    { "gptq-zeros", "gptq", "unknown w4 g32", "awq" },
    { "gptq-w3", "gptq", "unknown w3 g32 sym", "compressed-tensors" },
    { "gptq-v2", "gptq-v2", "unknown w8 g32", "compressed-tensors" },
    { "awq", "awq", "unknown w4 g32", "gptq-v2" },
    { "hqq", "hqq", "unknown w4 g32" },
  } do
    local name, format, label, instead = table.unpack(row)
    it("is read bit by bit: " .. name, function()
      local model <close> = wane.load(OTHER .. name)
      assert.same({ format, label }, { model.quantization.format, model.quantization.label })
      for _, matrix in ipairs(MATRICES) do
        assert.is_true(model:tensor(matrix) == expected(name, matrix), matrix)
      end
      assert.is_true(model:logits(IDS):norm() > 0)
      -- and written again as it was, codes and all; but asymmetric GPTQ as version 2 only
      local same = dir .. "/" .. name
      if name == "gptq-zeros" then format = "gptq-v2" end
      wane.convert(OTHER .. name, same, { format = format })
      local again <close> = wane.load(same)
      assert.is_true(model:logits(IDS) == again:logits(IDS))
      if not instead then return end
      -- in another format, as far as its scales can be numbers of that
      local told = wane.convert(OTHER .. name, same .. "-other", { format = instead, round_scales = true })
      local other <close> = wane.load(told.dir)
      for _, matrix in ipairs(MATRICES) do
        local meant = model:tensor(matrix)
        if told.rounded == 0 then assert.is_true(other:tensor(matrix) == meant, matrix) end
        assert.is_true((other:tensor(matrix) - meant):norm() <= 0.001 * meant:norm(), matrix)
      end
    end)
  end

  it("becomes every format that wane check names, and no other", function()
    for _, name in ipairs { "ct-sym", "ct-zeros", "ct-w8", "ct-w8a8", "gptq", "gptq-zeros", "gptq-w3", "gptq-v2", "awq", "hqq" } do
      local quantize, named = wane.check(OTHER .. name).quantize, {}
      for _, format in ipairs(quantize.convert) do named[format] = "sure" end
      for _, format in ipairs(quantize.convert_perhaps) do named[format] = "perhaps" end
      local model <close> = wane.load(OTHER .. name)
      for _, format in ipairs { "compressed-tensors", "awq", "gptq", "gptq-v2", "hqq", "dense" } do
        local out = ("%s/%s-as-%s"):format(dir, name, format)
        local ok, err = pcall(wane.convert, OTHER .. name, out, { format = format, dtype = format == "dense" and "f32" or nil,
                                                                  round_scales = true })
        if named[format] ~= "perhaps" then assert.equal(named[format] == "sure", ok, out .. ": " .. tostring(err)) end
        if ok then
          assert.is_nil(core.files.kind(out .. "/quantize_config.json"), "GPTQModel's second config is of what it was")
          local back <close> = wane.load(out)
          local meant = model:tensor(MATRICES[1])
          assert.is_true((back:tensor(MATRICES[1]) - meant):norm() <= 0.001 * meant:norm(), out)
        else
          assert.equal("unsupported", err.code, out)
          assert.matches(format == "dense" and "8%-bit activations" or "format [%l-]+ holds", err.message)
        end
      end
    end
  end)

  it("is another where a bit of its codes is", function()
    local lie = dir .. "/lie"
    os.execute(("cp -r %sawq %s"):format(OTHER, lie))
    local path = lie .. "/model.safetensors"
    local bytes = core.files.read(path)
    local length = string.unpack("<I8", bytes)
    local header = core.json.decode(bytes:sub(9, 8 + length))
    local at = 8 + length + header[MATRICES[1]:gsub("weight$", "qweight")].data_offsets[1]
    core.files.write(path, bytes:sub(1, at) .. string.char(bytes:byte(at + 1) ~ 0x10) .. bytes:sub(at + 2))
    local model <close> = wane.load(lie)
    assert.is_false(model:tensor(MATRICES[1]) == expected("awq", MATRICES[1]))
    assert.is_true(model:tensor(MATRICES[2]) == expected("awq", MATRICES[2]))
  end)

  it("whose zero points are fractions stays what it is, or becomes dense", function()
    local ok, err = pcall(wane.convert, OTHER .. "hqq", dir .. "/from-hqq", { format = "awq" })
    assert.is_false(ok)
    assert.equal("unsupported", err.code)
    assert.matches("fractions", err.message)
    wane.convert(OTHER .. "hqq", dir .. "/dense", { format = "dense", dtype = "f32" })
    local dense <close> = wane.load(dir .. "/dense")
    for _, matrix in ipairs(MATRICES) do assert.is_true(dense:tensor(matrix) == expected("hqq", matrix)) end
  end)
end)
