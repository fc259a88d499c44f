-- What quantizing is said to take on the device, and what it takes: within a tenth of each other, never over the budget,
-- and refused before anything is read where nothing would fit.
local wane = require "wane"
local core = wane.core
local device = require "support.device"
local process = require "support.process"

local TINY = { family = "qwen3", hidden = 512, layers = 2, heads = 8, kv_heads = 4, head_dim = 64, mlp = 1024,
               vocabulary = 1200 }
local TEXTS, TOKENS = 24, 192

local folder
setup(function()
  folder = process.folder()
  wane.synth(TINY, folder .. "/model")
end)
teardown(function()
  os.execute("rm -r " .. folder)
  core.device.open("auto")
end)

-- texts that have nothing in common, so that each token is a row
local function texts()
  local list = {}
  for i = 1, TEXTS do
    local words = wane.tensor.random({ TOKENS }, { seed = i, device = "host" }):numbers()
    for k, x in ipairs(words) do words[k] = ("%d"):format(x * 1e6 // 1 | 0) end
    list[i] = table.concat(words, " ")
  end
  return wane.calibration { texts = list, samples = TEXTS, tokens = TOKENS, force = true }
end

local function plan_of(method) return method == "w8a8" and wane.smoothquant() or wane[method] { bits = 4 } end

describe("quantizing", function()
  for _, method in ipairs { "gptq", "awq", "w8a8", "smoothquant", "hqq" } do
    for _, memory in ipairs { "1GiB", "48MiB", "32MiB" } do
      it(("by %s takes what was planned, within %s"):format(method, memory), function()
        collectgarbage()
        wane.device { memory = memory }
        local model <close> = wane.load(folder .. "/model")
        local told
        local small <close> = wane.quantize(model, plan_of(method), method ~= "hqq" and texts() or nil,
          { prove = false, on_plan = function(bytes) told = bytes end })
        local q = small.quantization
        assert.equal(told, q.planned_bytes)
        assert.is_true(q.peak_bytes <= wane.bytes(memory))
        local ratio = q.planned_bytes / q.peak_bytes
        assert.is_true(ratio > 0.9 and ratio < 1.1, ("planned %s, took %s"):format(wane.bytes(q.planned_bytes),
          wane.bytes(q.peak_bytes)))
      end)
    end
  end

  it("is refused before anything is read where nothing would fit", function()
    collectgarbage()
    wane.device { memory = device.cpu and "9MiB" or "12MiB" }
    local model <close> = wane.load(folder .. "/model")
    local before = core.device.info()
    local err = select(2, wane.try("oom", wane.quantize, model, wane.gptq(), texts()))
    assert.equal("quantize", err.op)
    assert.is_true(err.requested > err.free)
    local after = core.device.info()
    assert.same({ before.live, before.allocations }, { after.live, after.allocations })
  end)
end)

describe("wane plan", function()
  it("tells the same before a run", function()
    local r = process.run_wane { "plan", folder .. "/model", "--method", "gptq", "--samples", "24", "--tokens", "192",
                                 "--memory", "1GiB", "--json" }
    assert.equal(0, r.code, r.err)
    collectgarbage()
    wane.device { memory = "1GiB" }
    local model <close> = wane.load(folder .. "/model")
    local small <close> = wane.quantize(model, wane.gptq(), texts(), { prove = false })
    assert.equal(core.json.decode(r.out).steps[2].bytes, small.quantization.planned_bytes)
    r = process.run_wane { "plan", folder .. "/model", "--memory", "12MiB" }
    assert.equal(4, r.code)
    assert.matches("does not fit", r.out)
  end)
end)
