-- Generated text: every answer of the bundled models to their own questions, against what Transformers answered;
-- the same under any batch size and budget; how answers end; failures leave nothing behind. About 20 s of one core.
local core = require "wane.core"
local wane = require "wane"
local records = require "wane.records"
local tasks = require "wane.tasks"
local device = require "support.device"

local NAMES = { "lune-5m", "lune-3m", "lune-1m" }

local function folder(name) return "examples/models/" .. name end

-- prompts of a task as token ids, the first as text, and each question
local function questions(model, name, count)
  local task = tasks.get(name)
  local prompts, first = {}, nil
  for i, record in ipairs((records.read(("examples/data/%s.test.jsonl"):format(name)))) do
    if count and i > count then break end
    local text = model.tokenizer:chat({ { role = "system", content = task.system },
                                        { role = "user", content = task.user(record) } },
                                      { add_generation_prompt = true, enable_thinking = false })
    first = first or text
    prompts[i] = model.tokenizer:encode(text, { special = false })
  end
  return prompts, first
end

local function ids_of(answers)
  local list = {}
  for i, one in ipairs(answers) do list[i] = one.ids end
  return list
end

local raises = require "support.raises"

describe("greedy answers", function()
  for _, name in ipairs(NAMES) do
    it("of " .. name .. " are Transformers', all 800", function()
      local model <close> = wane.load(folder(name))
      local reference = core.json.decode(core.files.read(("tests/reference/%s.json"):format(name)))
      local different = {}
      for task, expected in pairs(reference.tasks) do
        local prompts, first = questions(model, task)
        assert.equal(expected.prompt0, first)
        local answers = model:generate(prompts, { max_tokens = 64 })
        assert.equal(#expected.outputs, #answers)
        for i, one in ipairs(answers) do
          if one.text ~= expected.outputs[i] then
            different[#different + 1] = ("%s %d: %q, not %q"):format(task, i, one.text, expected.outputs[i])
          end
          assert.equal(#one.ids, one.tokens)
          assert.equal("stop", one.finish)
          assert.is_true(one.seconds > 0)
        end
      end
      if not device.exact then print(("%s: %d of 800 answers are Transformers'"):format(name, 800 - #different)) end
      if #different > device.close_calls(800) then assert.same({}, different) end
    end)
  end
end)

describe("batch size and memory change no answer", function()
  local prompts, expected
  -- where activations are rounded, so are sums, a little differently for other sizes: three of four stay the same
  local function check(got)
    if device.exact then return assert.same(expected, got) end
    local same = 0
    for i, ids in ipairs(got) do same = same + (table.concat(ids, " ") == table.concat(expected[i], " ") and 1 or 0) end
    assert.is_true(same >= 3 * #expected / 4, ("%d of %d answers stayed"):format(same, #expected))
  end
  lazy_setup(function()
    local model <close> = wane.load(folder "lune-3m")
    prompts = {}
    for _, name in ipairs { "arc", "squad_v2", "openmath" } do
      table.move(questions(model, name, 8), 1, 8, #prompts + 1, prompts)
    end
    -- no stop but the length, so that long answers meet too
    expected = ids_of(core.generate.answers(model, prompts, { max_tokens = 48, stop = { -1 } }))
  end)
  after_each(function() core.device.open("auto") end)

  for _, batch in ipairs { 1, 3, 16 } do
    it("at batch " .. batch, function()
      local model <close> = wane.load(folder "lune-3m")
      check(ids_of(core.generate.answers(model, prompts, { max_tokens = 48, stop = { -1 }, batch = batch })))
    end)
  end

  for _, memory in ipairs { "10MiB", "11MiB", "64MiB" } do
    it("within " .. memory, function()
      wane.device { memory = memory }
      local model <close> = wane.load(folder "lune-3m")
      check(ids_of(core.generate.answers(model, prompts, { max_tokens = 48, stop = { -1 } })))
      assert.is_true(core.device.info().peak <= wane.bytes(memory))
    end)
  end

  it("says what is missing where not even one answer fits", function()
    if not device.cpu then return pending("the sizes are the CPU's") end
    wane.device { memory = "9500KiB" }
    local model <close> = wane.load(folder "lune-3m")
    -- answers of ordinary length fit, however long they might become; one that does become so long does not
    assert.equal(24, #model:generate(prompts, { max_tokens = 900 }))
    local live = core.device.info().live
    local err = raises("oom", core.generate.answers, model, prompts, { max_tokens = 900, stop = { -1 } })
    assert.equal(live, core.device.info().live)
    assert.is_true(err.requested > err.free)
    assert.equal("generate", err.op)
    assert.is_truthy(err.message:find("lower max_tokens", 1, true))
  end)
end)

describe("an answer ends", function()
  local model, prompt
  lazy_setup(function()
    model = wane.load(folder "lune-1m")
    prompt = questions(model, "openmath", 1)
  end)
  lazy_teardown(function() model:close() end)

  local function one(options) return model:generate(prompt, options)[1] end

  it("at the model's own stop, which is not part of it", function()
    local out = one { max_tokens = 64 }
    assert.equal("stop", out.finish)
    assert.equal("\\boxed{24}", out.text)
  end)
  it("after max_tokens", function()
    local out = one { max_tokens = 2 }
    assert.equal("length", out.finish)
    assert.equal(2, #out.ids)
  end)
  it("with the closed box", function()
    local whole, out = one { max_tokens = 64 }, one { max_tokens = 64, stop_at_box = true }
    assert.equal("box", out.finish)
    assert.same(whole.ids, out.ids)
    assert.equal("\\boxed{24}", out.text)
  end)
  it("at a text, without it", function()
    local out = one { max_tokens = 64, stop = { "ed{", "never" } }
    assert.equal("stop", out.finish)
    assert.equal("\\box", out.text)
  end)
  it("at an id, and at a special token by its text", function()
    local whole = one { max_tokens = 64 }
    local out = one { max_tokens = 64, stop = { whole.ids[3] } }
    assert.equal("stop", out.finish)
    assert.same({ whole.ids[1], whole.ids[2] }, out.ids)
    assert.equal("stop", one { max_tokens = 64, stop = { "<|im_end|>" } }.finish)
  end)
  it("as a loop, of one token or of several", function()
    local other <close> = wane.load(folder "lune-3m")
    local prompts = {}
    for i, id in ipairs { 539, 532, 672 } do
      prompts[i] = {}
      for k = 1, 16 do prompts[i][k] = id end
    end
    for i, out in ipairs(core.generate.answers(other, prompts, { max_tokens = 64, stop = { -1 }, loop = 10 })) do
      assert.equal("loop", out.finish)
      local period, n = 1, #out.ids
      while period < n - 9 and table.concat(out.ids, " ", n - 9) ~= table.concat(out.ids, " ", n - 9 - period, n - period) do
        period = period + 1
      end
      assert.is_true(period < n - 9, i)
    end
  end)
end)

describe("model:generate", function()
  local model
  lazy_setup(function() model = wane.load(folder "lune-3m") end)
  lazy_teardown(function() model:close() end)

  it("takes texts, with what the tokenizer puts before them", function()
    local ids = model.tokenizer:encode("What is 2 + 2?", { special = true })
    local out = model:generate({ "What is 2 + 2?", ids }, { max_tokens = 5 })
    assert.same(out[1].ids, out[2].ids)
    assert.equal(model.tokenizer:decode(out[1].ids, { skip_special = true }), out[1].text)
  end)
  it("answers nothing with nothing", function() assert.same({}, model:generate {}) end)
  it("refuses what it does not know", function()
    assert.has_error(function() model:generate({ "a" }, { max_token = 3 }) end)
    assert.has_error(function() model:generate({ "a" }, { max_tokens = 0 }) end)
    assert.has_error(function() model:generate("a") end)
    assert.has_error(function() model:generate { true } end)
    assert.has_error(function() model:generate { {} } end)
    assert.has_error(function() model:generate { { 1, 2, 99999 } } end)
    assert.has_error(function() model:generate({ "a" }, { stop = { 1.5 } }) end)
  end)
  it("chats", function()
    local text, all = model:chat({ { role = "system", content = tasks.get("openmath").system },
                                   { role = "user", content = "What is 4 times 6?" } })
    assert.equal("\\boxed{24}", text)
    assert.equal("stop", all.finish)
    assert.equal(text, all.text)
  end)
end)

describe("wane.bench", function()
  it("measures reading and writing", function()
    local model <close> = wane.load(folder "lune-1m")
    local rows = wane.bench(model, { prompt = 64, tokens = 8, batches = { 1, 4 }, runs = 1 })
    assert.equal(3, #rows)
    assert.same({ "prompt", "decode", "decode" }, { rows[1].kind, rows[2].kind, rows[3].kind })
    assert.same({ 64, 7, 28 }, { rows[1].tokens, rows[2].tokens, rows[3].tokens })
    assert.is_true(rows[1].rate > 0)
    assert.has_error(function() wane.bench(model, { batch = 3 }) end)
  end)
end)

describe("a failure leaves nothing behind", function()
  after_each(function()
    core.device.fail_after(nil)
    core.device.interrupt(false)
  end)

  it("when an allocation fails, whichever it is", function()
    collectgarbage()
    local before = core.device.live()
    local n, out = 0, nil
    repeat
      local model <close> = wane.load(folder "lune-1m")
      core.device.fail_after(n)
      local ok, err = pcall(model.generate, model, { { 1, 2, 3 }, { 1, 2, 4, 5 } }, { max_tokens = 3 })
      core.device.fail_after(nil)
      if ok then out = err else assert.equal("oom", err.code, tostring(err)) end
      model:close()
      collectgarbage()
      assert.equal(before, (core.device.live()))
      n = n + 1
    until out
    assert.is_true(n > 20)
    assert.equal(2, #out)
  end)

  it("when it is interrupted", function()
    local model <close> = wane.load(folder "lune-1m")
    model:load()
    local before = core.device.live()
    core.device.interrupt()
    raises("interrupted", model.generate, model, { { 1, 2, 3 } }, { max_tokens = 500 })
    assert.equal(before, (core.device.live()))
    core.device.interrupt(false)
    assert.equal(1, #model:generate({ { 1, 2, 3 } }, { max_tokens = 2 }))
  end)
end)
