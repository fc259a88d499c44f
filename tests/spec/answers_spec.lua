-- What counts as an answer, and when two are the same.
local answers = require "wane.answers"

describe("the box", function()
  local rows = {
    { "\\boxed{C}", "C" },
    { "so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}" },
    { "\\boxed{1} and then \\boxed{2}", "2" },
    { "\\boxed{1} and then \\boxed{2", "1" },
    { "\\boxed{\\boxed{5}}", "5" },
    { "\\boxed{a \\} b}", "a \\} b" },
    { "\\boxed {7}", "7" },
    { "\\boxed{  }", nil },
    { "\\boxed{", nil },
    { "\\boxed{never closed, \\boxed{A}", "A" },
    { "\\boxed{A} and \\boxed{}", "A" },
    { "\\\\boxed{5}", "5" },
    { "x \\\\ \\boxed{5}", "5" },
    { "\\boxed{\\{1, 2\\}}", "\\{1, 2\\}" },
    { "} \\boxed{5} }", "5" },
    { "\\frac{\\boxed{3}}{4}", "3" },
    { "\\boxed{\u{e9}\u{20ac}}", "\u{e9}\u{20ac}" },
    { "\\boxed{a\0b}", "a\0b" },
    { "\\boxed", nil },
    { "boxed{C}", nil },
    { "C", nil },
    { "", nil },
  }
  for _, row in ipairs(rows) do
    it(("of %q is %s"):format(row[1], tostring(row[2])), function()
      assert.equal(row[2], answers.boxed(row[1]))
    end)
  end

  it("takes time in proportion to the text", function()
    local text = ("\\boxed{"):rep(2000) .. ("x"):rep(100000)
    local began = os.clock()
    assert.is_nil(answers.boxed(text))
    assert.is_true(os.clock() - began < 1)
  end)
end)

describe("what a model repeats without end", function()
  for name, text in pairs {
    spaces = "x" .. (" "):rep(200000) .. "x", dollars = ("$"):rep(200000) .. "x", zeros = "0." .. ("0"):rep(200000) .. "1",
    braces = ("{"):rep(100000) .. ("}"):rep(100000), stops = ("."):rep(200000), blanks = "1" .. (" "):rep(200000) .. "%x",
  } do
    it("takes no time: " .. name, function()
      local began = os.clock()
      for _, given in ipairs { text, text:sub(1, answers.most), text:sub(-answers.most) } do
        answers.boxed("\\boxed{" .. given .. "}")
        answers.choice(given)
        answers.truth(given)
        answers.number(given)
        answers.overlap(given, "x")
      end
      assert.is_true(os.clock() - began < 3) -- 0.1 s; without limits hours
    end)
  end

  it("keeps dollar signs that do not stand on both sides", function()
    local rows = { ["$x$"] = "x", ["$$x$"] = "x", ["$"] = "$", ["$$"] = "", ["$8"] = "$8", ["8$"] = "8$", ["$ a $ b $"] = "a $ b" }
    for given, plain in pairs(rows) do
      assert.equal(plain, answers.plain(given), given)
    end
  end)
end)

describe("an option", function()
  local rows = {
    { "C", 3 }, { "c", 3 }, { "(B)", 2 }, { "D. gold", 4 }, { "A) x", 1 }, { "\\text{B}", 2 }, { "$C$", 3 }, { "3", 3 },
    { "C.", 3 }, { "Option D", 4 }, { "\\textbf{(A)}", 1 }, { "b: x", 2 },
    { "2. gold", 2 }, { "2.5", nil }, { "1:30", nil }, { "4) 12 kg", 4 }, { "E", nil }, { "5", nil }, { "0", nil }, { "ABC", nil },
    { "apple", nil }, { "A or B", nil },
  }
  for _, row in ipairs(rows) do
    it(("%q is %s"):format(row[1], tostring(row[2])), function() assert.equal(row[2], answers.choice(row[1])) end)
  end
end)

describe("a truth", function()
  for text, value in pairs { True = true, ["false"] = false, Yes = true, ["\\text{No}"] = false, ["TRUE."] = true } do
    it(text, function() assert.equal(value, answers.truth(text)) end)
  end
  it("is not read into anything else", function() assert.is_nil(answers.truth("maybe true")) end)
end)

describe("a number", function()
  local rows = {
    { "42", 42 }, { "1,008", 1008 }, { "$8", 8 }, { "\\$8.50", 8.5 }, { "50%", 50 }, { "50\\%", 50 }, { "1/2", 0.5 },
    { "\\frac{1}{2}", 0.5 }, { "-\\dfrac{3}{4}", -0.75 }, { "1\\frac{1}{2}", 1.5 }, { "-3.50", -3.5 }, { "1.5e3", 1500 },
    { "2 \\times 10^{3}", 2000 }, { "x = 4", 4 }, { "\u{2212}7", -7 }, { ".5", 0.5 }, { "007", 7 }, { "-0", 0 },
    { "12,345,678.9", 12345678.9 }, { "1{,}000", 1000 }, { "\\text{12}", 12 },
    { "1 1/2", 1.5 }, { "-2 3/4", -2.75 }, { "$8.50$", 8.5 }, { "\u{20ac}8", 8 }, { "-$8", -8 }, { "1\\,008\\,000", 1008000 },
    { "1\\,08", nil }, { "3.", 3 },
    { "12 \\text{ cm}", 12 }, { "12\\text{ cm}^2", 12 }, { "90^\\circ", 90 }, { "90^{\\circ}", 90 }, { "90\u{b0}", 90 },
    { "4 apples", 4 }, { "7 square feet", 7 }, { "\\frac{1}{2}\\text{ hour}", 0.5 }, { "3 x", nil }, { "4 or 5", nil },
    { "\\boxed{4}", nil }, { "12 x apples", nil }, { "1e5", 100000 }, { "\\frac12", 0.5 }, { "\\frac{1}{0}", nil },
    { "1,2", nil }, { "1e400", nil }, { "1/0", nil }, { "four", nil }, { "", nil }, { "nan", nil },
    { "inf", nil }, { "0x10", nil }, { "1.2.3", nil },
  }
  for _, row in ipairs(rows) do
    it(("%q is %s"):format(row[1], tostring(row[2])), function()
      local n = answers.number(row[1])
      if row[2] == nil then assert.is_nil(n) else assert.is_true(math.abs(n.value - row[2]) < 1e-9) end
    end)
  end

  local function same(a, b) return answers.same_number(answers.number(a), answers.number(b)) end

  it("is compared exactly where it is whole", function()
    local digits = ("1234567890"):rep(4)
    assert.is_true(same(digits, "0" .. digits))
    assert.is_false(same(digits, digits:sub(1, -2) .. "1"))
    assert.is_false(same("1008", "1009"))
    assert.is_true(same("-0", "0"))
    assert.is_true(same("5.0", "5"))
  end)
  it("is compared within 1e-4 where it has a fraction", function()
    assert.is_true(same("16.67", "16.67001"))
    assert.is_false(same("16.67", "16.671"))
    assert.is_true(same("\\frac{1}{3}", "0.33333"))
  end)
  it("may be a share in percent", function()
    assert.is_true(same("50%", "0.5"))
    assert.is_true(same("50%", "50"))
    assert.is_false(same("50%", "5"))
  end)
end)

describe("a span", function()
  it("is compared in SQuAD's normal form", function()
    assert.equal("quick brown fox", answers.normal("The  quick, brown fox!"))
    local f1, exact = answers.overlap("the Eiffel Tower.", "Eiffel tower")
    assert.equal(1, f1)
    assert.is_true(exact)
  end)
  it("is lower case beyond ASCII too, and keeps its accents", function()
    assert.equal("y\u{fc}an \u{e9}cole\u{2013}n", answers.normal("Y\u{dc}AN\u{a0}the \u{c9}cole\u{2013}N!"))
  end)
  it("scores the words it shares", function()
    local f1, exact = answers.overlap("red kite of Tom", "red kite")
    assert.is_true(math.abs(f1 - 2 * 2 / (4 + 2)) < 1e-12)
    assert.is_false(exact)
    assert.equal(0, (answers.overlap("blue", "red")))
  end)
end)
