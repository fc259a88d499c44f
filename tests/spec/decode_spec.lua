-- Every format's files, decoded by a program that knows nothing of wane: tests/reference/decode_formats.py, in NumPy. Every
-- weight is what wane computes with, bit by bit; and one that is not is found.
local wane = require "wane"
local process = require "support.process"
local core = wane.core

local dir = process.folder()
teardown(function() os.execute("rm -r " .. process.quote(dir)) end)

local LINEARS = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                  "mlp.up_proj", "mlp.down_proj" }
local DECODER = process.run("pwd").out:gsub("\n", "") .. "/tests/reference/decode_formats.py"
-- the interpreter that has NumPy: Debian's, or another
local python
for _, name in ipairs { "python3", "/usr/bin/python3" } do
  if process.run(name .. " -c 'import numpy'").code == 0 then python = name end
end

local function save_weights(model, path)
  local weights = {}
  for i = 0, math.tointeger(model.config.num_hidden_layers) - 1 do
    for _, linear in ipairs(LINEARS) do
      local name = ("model.layers.%d.%s.weight"):format(i, linear)
      weights[name] = model:tensor(name)
    end
  end
  wane.tensor.save(path, weights)
end

local function decode(folder, weights)
  return process.run(("%s %s %s %s"):format(python, process.quote(DECODER), process.quote(folder), process.quote(weights)))
end

describe("a decoder of another make", function()
  local grid = function(more)
    more.group_size = more.group_size or 32
    return more
  end
  local rows = {
    { "compressed-tensors", "qwen3", wane.rtn(grid { bits = 4 }) },
    { "compressed-tensors", "qwen2", wane.rtn(grid { bits = 3 }) },
    { "compressed-tensors", "qwen3", wane.rtn(grid { bits = 2, symmetric = true }) },
    { "compressed-tensors", "llama3", wane.rtn(grid { bits = 8, group_size = -1 }) },
    { "awq", "qwen3", wane.rtn(grid { bits = 4, format = "awq" }) },
    { "awq", "llama3", wane.rtn(grid { bits = 4, group_size = -1, format = "awq", symmetric = true }) },
    { "gptq", "qwen3", wane.rtn(grid { bits = 4, symmetric = true, format = "gptq" }) },
    { "gptq", "qwen2", wane.rtn(grid { bits = 8, group_size = -1, symmetric = true, format = "gptq" }) },
    { "gptq", "qwen3", wane.rtn(grid { bits = 3, symmetric = true, format = "gptq" }) },
    { "gptq-v2", "qwen3", wane.rtn(grid { bits = 4, format = "gptq-v2" }) },
    { "gptq-v2", "qwen2", wane.rtn(grid { bits = 2, format = "gptq-v2" }) },
    { "hqq", "qwen3", wane.hqq(grid { bits = 4, zero = "float" }) },
    { "hqq", "qwen2", wane.rtn(grid { bits = 4, format = "hqq" }) },
  }
  for i, row in ipairs(rows) do
    local format, family, plan = table.unpack(row)
    it(("finds wane's weights in %s of %s, %s"):format(format, family, plan.label), function()
      if not python then return pending("needs python3-numpy") end
      local out = ("%s/out%d"):format(dir, i)
      local model <close> = wane.load("tests/reference/tiny/" .. family)
      local small <close> = wane.quantize(model, plan, nil, { prove = false })
      assert.equal(format, small:save(out).format)
      local saved <close> = wane.load(out)
      save_weights(saved, out .. ".safetensors")
      local done = decode(out, out .. ".safetensors")
      assert.equal(0, done.code, done.out .. done.err)
      assert.is_truthy(done.out:find("weights, 0 different", 1, true))
    end)
  end

  it("finds a bit that is not as it was", function()
    if not python then return pending("needs python3-numpy") end
    local out = dir .. "/damaged"
    local model <close> = wane.load "tests/reference/tiny/qwen3"
    local small <close> = wane.quantize(model, rows[5][3], nil, { prove = false })
    small:save(out)
    save_weights(small, out .. ".safetensors")
    assert.equal(0, decode(out, out .. ".safetensors").code)
    local bytes = core.files.read(out .. "/model.safetensors")
    local at = #bytes // 2 -- among the codes, which are most of the file
    core.files.write(out .. "/model.safetensors",
      bytes:sub(1, at) .. string.char(bytes:byte(at + 1) ~ 0x10) .. bytes:sub(at + 2))
    local done = decode(out, out .. ".safetensors")
    assert.equal(1, done.code, done.out .. done.err)
    assert.is_truthy(done.out:find("weights, 1 different", 1, true), done.out)
  end)
end)
