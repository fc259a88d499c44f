-- load_formats.lua: for load_formats.py, what wane itself makes of the bundled models in every format:
--   build/wane tests/reference/load_formats.lua OUT [RECORDS-OF-EACH-SET] [PATTERN-OF-ROWS]
-- OUT/MODEL_FORMAT is the saved model; OUT/MODEL_FORMAT.json its last logits and greedy answers to the first questions
-- of each set, as token ids; OUT/MODEL_FORMAT.weights.safetensors every weight that its codes stand for, in float32.
local wane = require "wane"

local out, each = arg[1] or "runs/load_formats", tonumber(arg[2] or 10)
local pattern = arg[3] or ""
local TASKS = { "arc", "boolq", "squad_v2", "openmath" }
local LINEARS = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                  "mlp.up_proj", "mlp.down_proj" }

local calibration = wane.calibration { file = "examples/data/calibration.jsonl" }
-- a name, and the plan that ends in it
local rows = {
  { "ct-sym", wane.gptq { bits = 4, format = "compressed-tensors" } },
  { "ct-zeros", wane.hqq { bits = 4 } },
  { "ct-row", wane.rtn { bits = 4, group_size = -1 } },
  { "ct-w8", wane.rtn { bits = 8 } },
  { "ct-w3", wane.gptq { bits = 3 } },
  { "ct-w8a8", wane.smoothquant() },
  { "awq", wane.awq { bits = 4 } },
  { "gptq", wane.gptq { bits = 4 } },
  { "gptq-w8", wane.gptq { bits = 8 } },
  { "gptq-v2", wane.gptq { bits = 4, symmetric = false, format = "gptq-v2" } },
  { "hqq", wane.hqq { bits = 4, zero = "float" } },
}

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

local function questions(model)
  local result = wane.evaluate(model, { tasks = TASKS, data = "examples/data", trunc_eval = each })
  local list = {}
  for i, s in ipairs(result.samples) do
    list[i] = model.tokenizer:encode(s.prompt, { special = false }) -- the template has written them all
  end
  return list
end

local function make(model, prompts, dir, plan)
  local small <close> = wane.quantize(model, plan, calibration, { prove = false })
  small:save(dir)
  local saved <close> = wane.load(dir)
  local page = { format = saved.quantization.format, label = saved.quantization.label, questions = {} }
  for i, answer in ipairs(saved:generate(prompts, { max_tokens = 64 })) do
    local logits <close> = saved:logits(prompts[i])
    page.questions[i] = { ids = prompts[i], answer = answer.ids,
                          logits = logits:slice(1, logits.shape[1]):numbers()[1] }
  end
  wane.json.save(dir .. ".json", page)
  save_weights(saved, dir .. ".weights.safetensors")
  print(dir, page.format, page.label)
end

wane.files.mkdir(out)
for _, name in ipairs { "lune-5m", "lune-3m" } do
  local model <close> = wane.load("examples/models/" .. name)
  local prompts = questions(model)
  for _, row in ipairs(rows) do
    if row[1]:find(pattern) then make(model, prompts, ("%s/%s_%s"):format(out, name, row[1]), row[2]) end
  end
end
