--- What a fresh quantized model is shown to do, beside its source: it answers, and its next-token distributions and
-- perplexity are as near as they are measured to be. What the budget has no room for is said, not left out silently.
local core = require "wane.core"

local proof = {}

local MOST = 512 -- tokens of calibration text that the two models are compared on
local ANSWER = 16 -- tokens of the smoke prompt's answer

-- Used where no calibration text is given: plain English, written for this.
local TEXT = [[The mill stood where two small rivers met. In spring the water rose over the lower meadow, and the miller
moved his sacks to the upper floor. He wrote the height of the flood on the door post every year, so that his children
could see which year had been the worst. By the time he was old there were forty-one marks, and none of them was higher
than the third.]]

-- The first texts of the calibration set, as lists of ids, or the paragraph above.
local function sample(model, texts)
  if not texts then return { model.tokenizer:encode(TEXT, { special = false }) } end
  local list, total = {}, 0
  for _, ids in ipairs(texts.ids) do
    local part = table.move(ids, 1, math.min(#ids, MOST - total), 1, {})
    if #part < 2 then break end
    list[#list + 1], total = part, total + #part
  end
  return list
end

-- exp of the mean negative log-probability of every token but each text's first
local function perplexity(model, list)
  local sum, tokens = 0.0, 0
  for _, one in ipairs(model:score(list)) do sum, tokens = sum - one.logprob, tokens + one.tokens end
  return math.exp(sum / tokens)
end

local function divergence(source, small, list)
  local sum, tokens = 0.0, 0
  for _, ids in ipairs(list) do
    local mean, n = source:divergence(small, ids)
    sum, tokens = sum + mean * n, tokens + n
  end
  return sum / tokens
end

-- f's value; where memory is short nil, and why in notes
local function measured(notes, what, f, ...)
  local ok, value = pcall(f, ...)
  if ok then return value end
  if type(value) ~= "table" or value.code ~= "oom" then error(value, 0) end
  notes[#notes + 1] = ("%s not measured: %s"):format(what, value.message)
end

local function answer(small)
  local ok, ids = pcall(function()
    return (small.tokenizer:prompt({ { role = "user", content = "What is 2 + 2?" } }, { add_generation_prompt = true }))
  end)
  if not ok then ids = small.tokenizer:encode("The", { special = true }) end -- a model without a chat template
  local out = small:generate({ ids }, { max_tokens = ANSWER, batch = 1 })[1]
  return { prompt = ok and "What is 2 + 2?" or "The", text = out.text, finish = out.finish, tokens = out.tokens }
end

--- Asks the new model a question, and holds it against its source on one text.
-- @param source the model it was made from
-- @param small the new one
-- @param texts what calibration:bind gave, or nil
-- @return { smoke, tokens, divergence (nats), perplexity, source_perplexity, notes }
-- @error numeric where the new model's logits are NaN
function proof.of(source, small, texts)
  local notes = {}
  local found = { notes = core.json.array(notes) }
  found.smoke = measured(notes, "smoke prompt", answer, small)
  if found.smoke and found.smoke.finish == "nan" then
    error(setmetatable({ code = "numeric", op = "quantize",
      message = "the quantized model's logits are NaN; try more bits, a smaller group or wane.rtn" }, core.error), 0)
  end
  local list = sample(source, texts)
  found.tokens = 0
  for _, ids in ipairs(list) do found.tokens = found.tokens + #ids end
  found.perplexity = measured(notes, "perplexity", perplexity, small, list)
  found.divergence = measured(notes, "divergence", divergence, source, small, list)
  small:unload()
  found.source_perplexity = measured(notes, "the source's perplexity", perplexity, source, list)
  source:unload()
  return found
end

return proof
