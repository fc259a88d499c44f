--- What a model does with text: answers, chats, log-probabilities, perplexity.
-- Methods of models. The loops over tokens are C (runtime/model/generate.c, score.c, divergence.c).
local core = require "wane.core"
local options = require "wane.options"

local methods, docs = core.model.methods, core.docs
local generate = {}

generate.options = {
  { name = "max_tokens", kind = "integer", default = 100, least = 1, doc = "most generated tokens for an answer" },
  { name = "stop_at_box", kind = "boolean", default = false, doc = "end once a \\boxed{...} is closed" },
  { name = "loop", kind = "integer", default = 0, least = 0,
    doc = "end once so many tokens repeat a period of at most 64; 0: never" },
  { name = "batch", kind = "integer", default = 0, least = 0,
    doc = "answers at once; 0: what fits, at most 64 (GPU: 512)" },
  { name = "stop", kind = "list", default = {}, doc = "ids and texts that end an answer, besides the model's own" },
}

generate.chat_options = table.move(generate.options, 1, #generate.options, 1, {})
generate.chat_options[1] = { name = "max_tokens", kind = "integer", default = 1000, least = 1,
                             doc = "most generated tokens for the answer" }
table.insert(generate.chat_options, { name = "thinking", kind = "boolean", default = false,
                                      doc = "let the chat template open a thinking part" })

generate.perplexity_options = {
  { name = "window", kind = "integer", default = 2048, least = 2, doc = "tokens of a window; at most the model's" },
}

-- ids of a prompt: a list as it is, a text with what the tokenizer puts before texts
local function ids_of(model, prompt, what)
  if type(prompt) == "string" then return model.tokenizer:encode(prompt, { special = true }) end
  if type(prompt) == "table" then return prompt end
  error(("%s is a %s, neither a text nor a list of ids"):format(what, type(prompt)), 3)
end

-- Stops as the C half takes them: ids, with the model's own, and texts. The text of a special token is its id.
local function split_stops(model, stops)
  local ids, texts = table.move(model.eos, 1, #model.eos, 1, {}), {}
  for i, stop in ipairs(stops) do
    if math.type(stop) == "integer" then
      ids[#ids + 1] = stop
    elseif type(stop) == "string" and stop ~= "" then
      local id = model.tokenizer:id(stop)
      if id and model.tokenizer:is_special(id) then ids[#ids + 1] = id else texts[#texts + 1] = stop end
    else
      error(("stop %d is neither an id nor a text"):format(i), 3)
    end
  end
  return ids, texts
end

-- text up to where the first of the stop texts begins
local function cut(text, stops)
  local first = #text + 1
  for _, stop in ipairs(stops) do first = math.min(first, text:find(stop, 1, true) or first) end
  return text:sub(1, first - 1)
end

local function answer(model, prompts, o)
  local ids, texts = split_stops(model, o.stop)
  local tokenizer = core.files.kind(model.dir .. "/tokenizer.json") and model.tokenizer or nil
  local out = core.generate.answers(model, prompts, {
    max_tokens = o.max_tokens, stop_at_box = o.stop_at_box, loop = o.loop, batch = o.batch,
    stop = ids[1] and ids or nil, stop_text = texts[1] and texts or nil,
  }, tokenizer)
  for _, one in ipairs(out) do
    one.text = tokenizer and cut(tokenizer:decode(one.ids, { skip_special = true }), texts) or nil
  end
  return out
end

docs["model.generate"] = "generate(prompts, options) -> { { text, ids, tokens, seconds, finish } }; greedy; "
  .. "prompts are texts or lists of ids; raises oom, interrupted"

--- Greedy answers to texts or lists of ids. Batch size and memory change no answer.
-- @param prompts { "text" or { ids }, ... }
-- @param given options: max_tokens, stop_at_box, loop, batch, stop
-- @return { { text, ids, tokens, seconds, finish }, ... }; finish is "stop", "length", "box", "loop" or "nan"
-- @error oom (an answer outgrows what is free), interrupted
function methods.generate(self, prompts, given)
  local o = options.check(generate.options, given, "model:generate")
  if type(prompts) ~= "table" then error("model:generate takes a list of prompts, not a " .. type(prompts), 2) end
  local lists = {}
  for i, prompt in ipairs(prompts) do lists[i] = ids_of(self, prompt, ("prompt %d"):format(i)) end
  return answer(self, lists, o)
end

docs["model.chat"] = "chat(messages, options) -> the answer's text, and all about it as generate gives it; "
  .. "raises oom, interrupted"

--- The answer to messages, by the model's own chat template.
-- @param messages { { role = "user", content = "..." }, ... }
-- @param given options of generate, and thinking
-- @return text, { text, ids, tokens, seconds, finish }
function methods.chat(self, messages, given)
  local o = options.check(generate.chat_options, given, "model:chat")
  local ids = self.tokenizer:prompt(messages, { add_generation_prompt = true, enable_thinking = o.thinking })
  local out = answer(self, { ids }, o)[1]
  return out.text, out
end

-- what stands before a text that has nothing before it
local function first_id(model, i)
  local id = math.tointeger(model.config.bos_token_id) or model.eos[1]
  return id or error(("pair %d has an empty context, and this model has no token to begin with"):format(i), 4)
end

-- ids of context and continuation together, and the index of the first that is not the context's. Texts are encoded
-- as a whole: where a token reaches over the border, it is the continuation's.
local function join(model, pair, i)
  local context, continuation = pair[1], pair[2]
  if type(context) ~= type(continuation) then
    error(("pair %d: context and continuation are both texts or both lists of ids"):format(i), 3)
  end
  if #continuation == 0 then error(("pair %d has an empty continuation"):format(i), 3) end
  local ids, from = {}, 1
  if type(context) == "string" then
    local alone = model.tokenizer:encode(context, { special = true })
    ids = model.tokenizer:encode(context .. continuation, { special = true })
    while from <= #alone and from < #ids and alone[from] == ids[from] do from = from + 1 end
  else
    table.move(context, 1, #context, 1, ids)
    table.move(continuation, 1, #continuation, #ids + 1, ids)
    from = #context + 1
  end
  if from == 1 then
    table.insert(ids, 1, first_id(model, i))
    from = 2
  end
  return ids, from
end

docs["model.score"] = "score(pairs) -> { { logprob, tokens, greedy } }; a pair is { context, continuation }, texts or "
  .. "lists of ids, and may be one list of ids; raises oom, interrupted"

--- Log-probabilities of continuations in nats; what pairs begin with in common is computed once.
-- @param pairs { { context, continuation }, ... }: texts, or lists of ids; or { ids, ... }: whole lists
-- @return { { logprob = sum, tokens = how many, greedy = whether each was the likeliest }, ... }
function methods.score(self, list)
  if type(list) ~= "table" then error("model:score takes a list of pairs, not a " .. type(list), 2) end
  local sequences, from = {}, {}
  for i, pair in ipairs(list) do
    if type(pair) ~= "table" then error(("pair %d is a %s"):format(i, type(pair)), 2) end
    if math.type(pair[1]) == "integer" then
      sequences[i], from[i] = pair, 2
    else
      sequences[i], from[i] = join(self, pair, i)
    end
  end
  return core.generate.score(self, sequences, from)
end

-- mean of the windows' sums over all their tokens, and its standard error: tokens of a window depend on each other,
-- so it is the windows that are counted as independent. With a single window, its tokens are.
local function mean_and_error(scores)
  local sum, tokens, squares, n = 0.0, 0, 0.0, #scores
  for _, s in ipairs(scores) do sum, tokens = sum - s.logprob, tokens + s.tokens end
  local mean = sum / tokens
  local parts, of = scores, tokens / n
  if n == 1 then
    parts, of, n = {}, 1, tokens
    for i, value in ipairs(scores[1].each) do parts[i] = { logprob = value } end
  end
  for _, s in ipairs(parts) do squares = squares + (-s.logprob / of - mean) ^ 2 end
  return mean, n > 1 and math.sqrt(squares / (n - 1) / n) or nil, tokens
end

docs["model.perplexity"] = "perplexity(text, { window = 2048 }) -> { nll, perplexity, tokens, error, windows }; "
  .. "raises oom, interrupted"

--- Perplexity of a text, or of a list of ids, in windows without overlap; the last partial one is left out.
-- The first token of a window is given, not scored; no special tokens are added.
-- @return { nll = mean in nats, perplexity, tokens = scored, error = standard error of nll, windows }
function methods.perplexity(self, text, given)
  local o = options.check(generate.perplexity_options, given, "model:perplexity")
  local ids = text
  if type(text) == "string" then ids = self.tokenizer:encode(text, { special = false }) end
  if type(ids) ~= "table" then error("model:perplexity takes a text or a list of ids, not a " .. type(text), 2) end
  local window = math.min(o.window, math.tointeger(self.config.max_position_embeddings) or o.window, #ids)
  if window < 2 then error("model:perplexity needs a text of at least two tokens", 2) end
  local windows, from = {}, {}
  for first = 1, #ids - window + 1, window do
    windows[#windows + 1] = table.move(ids, first, first + window - 1, 1, {})
    from[#from + 1] = 2
  end
  local scores = core.generate.score(self, windows, from, #windows == 1)
  local nll, err, tokens = mean_and_error(scores)
  return { nll = nll, perplexity = math.exp(nll), tokens = tokens, error = err, windows = #windows }
end

docs["model.divergence"] = "divergence(other, text) -> mean KL(model || other) of the next token in nats; raises oom"

--- How far another model's next-token distributions are from this one's, on a text or a list of ids.
-- A text longer than the models' positions goes in windows of that many tokens, without overlap.
-- @return mean in nats, tokens
function methods.divergence(self, other, text)
  local ids = type(text) == "string" and self.tokenizer:encode(text, { special = false }) or text
  if type(ids) ~= "table" or #ids == 0 then error("model:divergence takes a text or a list of ids", 2) end
  local window = math.min(math.tointeger(self.config.max_position_embeddings) or #ids,
                          math.tointeger(other.config.max_position_embeddings) or #ids)
  local sum = 0.0
  for first = 1, #ids, window do
    local part = table.move(ids, first, math.min(first + window - 1, #ids), 1, {})
    sum = sum + #part * core.generate.divergence(self, other, part)
  end
  return sum / #ids, #ids
end

return generate
