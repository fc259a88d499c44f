-- What quantizing the bundled models must come to: right answers of 800 and the mean layer error, every method, at four
-- and three bits. The bands are those of a plain float32 implementation of the same methods (README, "What it costs").
local wane = require "wane"
local device = require "support.device"

local MODELS = {
  { name = "lune-5m", bf16 = { 200, 168, 139, 199 }, within = 10, gptq_w3 = 690 },
  { name = "lune-3m", bf16 = { 199, 164, 111, 198 }, within = 14, gptq_w3 = 645 },
  { name = "lune-1m", bf16 = { 196, 167, 121, 200 }, within = 16, gptq_w3 = 615 },
}
local TASKS = { "arc", "boolq", "squad_v2", "openmath" }

for _, expected in ipairs(MODELS) do
  describe(expected.name, function()
    local model, calibration, baseline
    setup(function()
      model = wane.load("examples/models/" .. expected.name)
      calibration = wane.calibration { file = "examples/data/calibration.jsonl" }
      baseline = wane.evaluate(model, { tasks = TASKS, data = "examples/data" })
    end)
    teardown(function() model:close() end)

    it("answers as Transformers has it", function()
      local right = {}
      for i, task in ipairs(TASKS) do right[i] = baseline.tasks[task].correct end
      for i, count in ipairs(right) do assert.near(expected.bf16[i], count, device.exact and 0 or 2) end
    end)

    for _, bits in ipairs { 4, 3 } do
      -- gptq is symmetric unless told at 4 bits
      local plans = { wane.rtn { bits = bits }, wane.hqq { bits = bits }, wane.awq { bits = bits },
                      wane.gptq { bits = bits }, wane.smoothquant { bits = bits } }
      if bits == 4 then plans[#plans + 1] = wane.gptq { bits = bits, symmetric = false } end
      for _, plan in ipairs(plans) do
        it("keeps its answers: " .. plan.label, function()
          local method = plan.method
          local small <close> = wane.quantize(model, plan, calibration)
          local q = small.quantization
          local right = wane.evaluate(small, { tasks = TASKS, data = "examples/data" }).correct
          if bits == 4 then
            assert.is_true(math.abs(right - baseline.correct) <= expected.within, right .. " right")
          elseif method == "gptq" then
            assert.is_true(right >= expected.gptq_w3 - (device.exact and 0 or 16), right .. " right")
          end
          if method == "gptq" then assert.is_true(q.error <= 0.65 * q.rtn_error, q.error .. " of " .. q.rtn_error) end
          if method == "hqq" or method == "awq" then assert.is_true(q.error < q.rtn_error) end
          for _, layer in ipairs(q.layers) do
            assert.is_true(layer.error <= layer.rtn_error * 1.0001, layer.name)
          end
        end)
      end
    end
  end)
end
