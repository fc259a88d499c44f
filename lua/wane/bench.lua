--- How fast a model reads prompts and writes answers, on the device in use.
--   for _, row in ipairs(wane.bench(model, { batches = { 1, 16 } })) do print(row.kind, row.batch, row.rate) end
-- Every prompt is different from its first token on, so that none is computed for another, and no answer ends before
-- its length. A rate is the best of `runs`, which is what the machine can do when nothing else is in its way.
local core = require "wane.core"
local options = require "wane.options"

local spec = {
  { name = "prompt", kind = "integer", default = 512, least = 1, doc = "tokens of the prompt that is read" },
  { name = "prompts", kind = "integer", default = 1, least = 1, doc = "prompts that are read at once" },
  { name = "context", kind = "integer", default = 1, least = 1, doc = "tokens before each answer" },
  { name = "tokens", kind = "integer", default = 64, least = 2, doc = "tokens of each answer" },
  { name = "batches", kind = "list", of = "integer", default = { 1, 16 }, doc = "answers at once" },
  { name = "runs", kind = "integer", default = 3, least = 1, doc = "runs of each, of which the fastest counts" },
}

local NEVER = { -1 } -- an id that no token has: nothing ends an answer but its length

-- `count` prompts of `length` tokens
local function prompts_of(model, count, length)
  local vocabulary, list = math.tointeger(model.config.vocab_size), {}
  for i = 1, count do
    list[i] = {}
    for k = 1, length do list[i][k] = (i - 1 + (k - 1) * 7919) % vocabulary end
  end
  return list
end

-- seconds of the fastest of `runs`
local function fastest(runs, f)
  local best = math.huge
  for _ = 1, runs do
    local began = core.clock()
    f()
    best = math.min(best, core.clock() - began)
  end
  return best
end

local function answer(model, prompts, tokens)
  return core.generate.answers(model, prompts, { max_tokens = tokens, stop = NEVER, batch = #prompts })
end

--- Measures a model.
-- @param model any model, quantized or not
-- @param given options: prompt, prompts, context, tokens, batches, runs
-- @return { { kind = "prompt", batch = 1, rate = tokens a second, seconds, tokens }, { kind = "decode", ... }, ... }
-- @error oom, interrupted
local function bench(model, given)
  local o = options.check(spec, given, "wane.bench")
  options.check_model(model, "wane.bench")
  model:load()
  local positions = math.tointeger(model.config.max_position_embeddings) or math.huge
  local length = math.min(o.prompt, positions)
  local tokens = math.min(o.tokens, positions - 1)
  local context = math.min(o.context, positions - tokens)
  local read, count = prompts_of(model, o.prompts, length), o.prompts * length
  local seconds = fastest(o.runs, function() answer(model, read, 1) end)
  local rows = { { kind = "prompt", batch = o.prompts, tokens = count, seconds = seconds, rate = count / seconds } }
  for _, batch in ipairs(o.batches) do
    local prompts = prompts_of(model, batch, context)
    -- the first token of each comes out of the prompt's pass and is not counted
    local first = fastest(o.runs, function() answer(model, prompts, 1) end)
    local whole = fastest(o.runs, function() answer(model, prompts, tokens) end)
    count = batch * (tokens - 1)
    local spent = whole > first and whole - first or whole -- too short to be told apart: with the prompt's pass
    rows[#rows + 1] = { kind = "decode", batch = batch, tokens = count, seconds = spent, rate = count / spent }
  end
  return rows
end

return setmetatable({ options = spec }, { __call = function(_, ...) return bench(...) end })
