-- Scores: perplexity against Transformers', sums against single logits, pairs of texts, divergences. About 15 s of one
-- core.
local core = require "wane.core"
local wane = require "wane"
local records = require "wane.records"
local device = require "support.device"

local NAMES = { "lune-5m", "lune-3m", "lune-1m" }

local function folder(name) return "examples/models/" .. name end

-- the first 50 distinct passages of the real SQuAD records
local function passages()
  local list, seen = {}, {}
  for _, record in ipairs((records.read "tests/reference/data/squad_v2.test.jsonl")) do
    if not seen[record.context] and #list < 50 then
      seen[record.context] = true
      list[#list + 1] = record.context
    end
  end
  return table.concat(list, "\n\n")
end

-- log softmax of a row of logits at ids, and the likeliest id
local function log_softmax(row, id)
  local most, best, sum = -math.huge, nil, 0.0
  for i, x in ipairs(row) do
    if x > most then most, best = x, i - 1 end
  end
  for _, x in ipairs(row) do sum = sum + math.exp(x - most) end
  return row[id + 1] - most - math.log(sum), best
end

describe("perplexity", function()
  for _, name in ipairs(NAMES) do
    it("of " .. name .. " is Transformers' within 0.1 %", function()
      local model <close> = wane.load(folder(name))
      local expected = core.json.decode(core.files.read(("tests/reference/%s.json"):format(name))).perplexity
      local got = model:perplexity(passages(), { window = 256 })
      assert.equal(expected.windows, got.windows)
      assert.equal(255 * expected.windows, got.tokens)
      assert.near(expected.nll_mean, got.nll, device.exact and 1e-5 or 1e-3)
      assert.is_true(math.abs(got.perplexity / expected.value - 1) < 1e-3)
      assert.is_true(got.error > 0.02 and got.error < 0.3)
    end)
  end

  it("takes one short window whole, with the error of its tokens", function()
    local model <close> = wane.load(folder "lune-1m")
    local ids = model.tokenizer:encode("What is 4 times 6? What is 5 times 7?", { special = false })
    local got = model:perplexity(ids)
    assert.equal(1, got.windows)
    assert.equal(#ids - 1, got.tokens)
    local each = core.generate.score(model, { ids }, { 2 }, true)[1].each
    local mean, squares = 0, 0
    for _, x in ipairs(each) do mean = mean - x / #each end
    for _, x in ipairs(each) do squares = squares + (-x - mean) ^ 2 end
    assert.near(mean, got.nll, 1e-9)
    assert.near(math.sqrt(squares / (#each - 1) / #each), got.error, 1e-9)
    assert.has_error(function() model:perplexity("") end)
    assert.has_error(function() model:perplexity({ 5 }) end)
    assert.has_error(function() model:perplexity("text", { windows = 3 }) end)
  end)
end)

describe("scores", function()
  local model
  lazy_setup(function() model = wane.load(folder "lune-3m") end)
  lazy_teardown(function() model:close() end)
  after_each(function() core.device.open("auto") end)

  it("are sums of log softmax over the continuation", function()
    local context, continuation = "The sky is", " blue and green"
    local got = model:score { { context, continuation } }[1]
    local ids = model.tokenizer:encode(context .. continuation, { special = true })
    local start = #model.tokenizer:encode(context, { special = true })
    local rows, sum, greedy = model:logits(ids):numbers(), 0.0, true
    for i = start + 1, #ids do
      local value, best = log_softmax(rows[i - 1], ids[i])
      sum, greedy = sum + value, greedy and best == ids[i]
    end
    assert.near(sum, got.logprob, 1e-3)
    assert.equal(#ids - start, got.tokens)
    assert.equal(greedy, got.greedy)
  end)

  it("call what the model would say greedy", function()
    local prompt = model.tokenizer:encode("What is 4 times 6?", { special = true })
    local said = model:generate({ prompt }, { max_tokens = 6 })[1].ids
    local other = table.move(said, 1, #said, 1, {})
    other[3] = other[3] == 7 and 8 or 7
    local got = model:score { { prompt, said }, { prompt, other } }
    assert.is_true(got[1].greedy)
    assert.is_false(got[2].greedy)
    assert.is_true(got[1].logprob > got[2].logprob)
  end)

  it("are the same for ids in a pair, in one list, and beside others", function()
    local a, b = { 5, 6, 7, 8 }, { 9, 10 }
    local whole = { 5, 6, 7, 8, 9, 10 }
    local got = model:score { { a, b }, whole, { { 5 }, { 6, 7, 8, 9, 10 } }, { { 5, 6, 7 }, { 1 } } }
    assert.equal(2, got[1].tokens)
    assert.equal(5, got[2].tokens)
    assert.near(got[2].logprob, got[3].logprob, 1e-5)
    assert.near(model:score { { a, b } }[1].logprob, got[1].logprob, 1e-4)
  end)

  it("begin an empty context with the model's first token", function()
    local got = model:score { { "", "Hello" } }
    local ids = model.tokenizer:encode("Hello", { special = true })
    assert.equal(model.config.bos_token_id, ids[1])
    assert.near(model:score { ids }[1].logprob, got[1].logprob, 1e-4)
  end)

  it("refuse what is no pair", function()
    for _, wrong in ipairs { { 5 }, { { "a", "" } }, { { "a", { 1 } } }, { { { 1 }, { 99999 } } }, { { "a" } } } do
      assert.has_error(function() model:score(wrong) end)
    end
    assert.has_error(function() model:score "a" end)
    assert.same({}, model:score {})
  end)

  it("are the same with little memory", function()
    local list = {}
    for i = 1, 12 do
      list[i] = {}
      for k = 1, 40 do list[i][k] = k < 20 and k or (i * 37 + k * 11) % 1000 end
    end
    local expected = model:score(list)
    wane.device { memory = "9500KiB" }
    local small <close> = wane.load(folder "lune-3m")
    for i, one in ipairs(small:score(list)) do
      assert.near(expected[i].logprob, one.logprob, device.exact and 1e-3 or 1)
      assert.equal(expected[i].greedy, one.greedy)
    end
    assert.is_true(core.device.info().peak <= wane.bytes "9500KiB")
  end)
end)

describe("divergence", function()
  it("is nothing from a model to itself and something to another", function()
    local a <close> = wane.load(folder "lune-5m")
    local b <close> = wane.load(folder "lune-1m")
    local text = passages():sub(1, 3000)
    local own, tokens = a:divergence(a, text)
    assert.near(0, own, 1e-6)
    assert.is_true(tokens > 500)
    assert.is_true(a:divergence(b, text) > 0.1)
  end)
end)
