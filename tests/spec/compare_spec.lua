-- Comparing two results question by question, on results whose figures are known.
local wane = require "wane"
local statistics = require "wane.statistics"
local core = wane.core

-- A result from a text of verdicts: "+" right, "-" wrong, "." not asked; one letter a question.
local function result(name, text, task)
  local samples = {}
  for i = 1, #text do
    local c = text:sub(i, i)
    if c ~= "." then
      samples[#samples + 1] = { task = task or "arc", id = "q" .. i, line = i, correct = c == "+", gold = "A",
                                extracted = c == "+" and "A" or nil }
    end
  end
  return { name = name, samples = samples }
end

local function near(expected, actual) assert.is_true(math.abs(expected - actual) < 1e-12, ("%.17g"):format(actual)) end

describe("a comparison", function()
  it("pairs the questions and counts what was lost and gained", function()
    local c = wane.compare(result("a", "++++++----"), result("b", "++++----+-"))
    assert.same({ "a", "b", 10, 2, 1, 0 }, { c.baseline, c.name, c.n, c.lost, c.gained, c.unpaired })
    near(-0.1, c.delta)
    assert.same(statistics.paired(2, 1, 10), c.interval)
    near(statistics.mcnemar(2, 1), c.p)
    assert.equal("no difference shown", c.verdict)
  end)

  it("says worse and better only beyond chance", function()
    local before, after = ("+"):rep(40), ("-"):rep(8) .. ("+"):rep(32)
    local c = wane.compare(result("a", before), result("b", after))
    assert.equal("worse", c.verdict)
    near(2 * 0.5 ^ 8, c.p)
    assert.equal("better", wane.compare(result("a", after), result("b", before)).verdict)
    -- the same number of flips on both sides says nothing, however many they are
    assert.equal("no difference shown",
      wane.compare(result("a", ("+-"):rep(50)), result("b", ("-+"):rep(50))).verdict)
  end)

  it("of a result with itself shows nothing", function()
    local c = wane.compare(result("a", "+-+-"), result("a", "+-+-"))
    assert.same({ 0.0, 1.0, {} }, { c.delta, c.p, c.flips })
  end)

  it("leaves out and counts what only one has been asked", function()
    local c = wane.compare(result("a", "++..-"), result("b", "+.+.-"))
    assert.same({ 2, 2 }, { c.n, c.unpaired })
  end)

  it("counts a question that was asked twice once", function()
    local twice = result("a", "++")
    twice.samples[3] = twice.samples[1]
    assert.equal(2, wane.compare(twice, result("b", "+-")).n)
  end)

  it("tells sets apart, though their questions share an id", function()
    local function both(name, arc, boolq)
      local r = result(name, arc)
      for _, s in ipairs(result(name, boolq, "boolq").samples) do r.samples[#r.samples + 1] = s end
      return r
    end
    local c = wane.compare(both("a", "++", "--"), both("b", "+-", "+-"))
    assert.same({ 4, 1, 1 }, { c.n, c.lost, c.gained })
    assert.same({ 2, 1, 0 }, { c.tasks.arc.n, c.tasks.arc.lost, c.tasks.arc.gained })
    assert.same({ 2, 0, 1 }, { c.tasks.boolq.n, c.tasks.boolq.lost, c.tasks.boolq.gained })
  end)

  it("lists every flip with what was said, lost ones first, in the order of the files", function()
    local c = wane.compare(result("a", "+-+"), result("b", "-+-"))
    assert.same({ 1, 3, 2 }, { c.flips[1].line, c.flips[2].line, c.flips[3].line })
    assert.same({ "A", nil, "A" }, { c.flips[1].was, c.flips[1].now, c.flips[1].gold })
    assert.same({ nil, "A" }, { c.flips[3].was, c.flips[3].now })
  end)

  it("refuses results with nothing in common", function()
    local ok, err = pcall(wane.compare, result("a", "++.."), result("b", "..++"))
    assert.is_false(ok)
    assert.equal("format", err.code)
    assert.equal("a and b have no question in common; evaluate both on the same data", err.message)
  end)

  it("is plain data", function()
    local c = wane.compare(result("a", "+-"), result("b", "-+"))
    assert.same(c.delta, core.json.decode(core.json.encode(c)).delta)
  end)
end)

describe("figures behind it", function()
  it("are those of exact tests", function()
    near(1.0, statistics.mcnemar(0, 0))
    near(1.0, statistics.mcnemar(1, 1))
    near(0.125, statistics.mcnemar(0, 4))
    near(2 * (1 + 8) / 256, statistics.mcnemar(7, 1))
    near(statistics.mcnemar(1, 7), statistics.mcnemar(7, 1))
  end)
end)
