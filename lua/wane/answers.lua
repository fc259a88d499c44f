--- Reading an answer: the box, then what is in it.
-- A box is `\boxed{...}` with balanced braces; the last one of a text counts, as in the MATH benchmark
-- (Hendrycks et al. 2021, arXiv:2103.03874). Numbers are compared exactly where both are whole or decimal, so
-- that 40-digit integers do not become equal by rounding.
local unicode = require "wane.template.unicode"

local answers = {}

--- Bytes of what is looked through for a wrapped word or a number. A model that repeats itself can fill a box with
-- a hundred thousand spaces or dollar signs, on which some of the patterns below would take minutes.
answers.most = 1000

local trim = unicode.trim

-- What opens or closes a group: \boxed{, {, }; an escaped brace, or any other escape, is text.
local function groups(text)
  local at = 1
  return function()
    while true do
      local from = text:find("[{}\\]", at)
      if not from then return nil end
      local _, brace = text:find("^\\boxed%s*{", from)
      at = (brace or from) + 1
      if brace then return "box", from, brace end
      local c = text:sub(from, from)
      if c ~= "\\" then return c, from, from end
      if text:find("^[{}\\]", at) and not text:find("^\\boxed", at) then at = at + 1 end
    end
  end
end

--- The content of the last well-formed box: the one that begins last of those that are closed and not empty.
-- @param text string  what the model wrote
-- @return string or nil  the content, trimmed
function answers.boxed(text)
  local found, begins, open = nil, 0, {}
  for kind, from, to in groups(text) do
    if kind ~= "}" then
      open[#open + 1] = { box = kind == "box", from = from, inside = to + 1 }
    elseif open[1] then
      local group = table.remove(open)
      if group.box and group.from > begins and text:find("%S", group.inside) < from then
        found, begins = trim(text:sub(group.inside, from - 1)), group.from
      end
    end
  end
  return found
end

-- Without the dollar signs on both sides, where they are on both.
local function without_dollars(text)
  local first, last = text:find("[^$]"), #(text:match("^.*[^$]") or "")
  if not first then return #text > 1 and "" or text end
  return first > 1 and last < #text and text:sub(first, last) or text
end

local WRAPPERS = { "text", "textbf", "textit", "mathrm", "mathbf", "mbox", "operatorname" }

--- A box's content without what TeX puts around words: \text{C} -> C, $x$ -> x, outer braces, a final full stop.
-- What is longer than answers.most is only trimmed.
-- @param inside string
-- @return string
function answers.plain(inside)
  if #inside > answers.most then return trim(inside) end
  local before
  repeat
    before = inside
    inside = trim(without_dollars(inside):gsub("^\\[%(%[](.-)\\[%)%]]$", "%1"))
    for _, wrapper in ipairs(WRAPPERS) do
      inside = inside:gsub("^\\" .. wrapper .. "%s*(%b{})$", function(braces) return braces:sub(2, -2) end)
    end
    inside = inside:gsub("^(%b{})$", function(braces) return braces:sub(2, -2) end)
    inside = trim(inside:gsub("%.$", ""):gsub("\\[ ,;!]", " "):gsub("~", " "))
  until inside == before
  return inside
end

--- One of four options: A to D, or 1 to 4, alone or before its text.
-- @param inside string  a box's content
-- @return integer or nil  1 to 4
function answers.choice(inside)
  local text = answers.plain(inside)
  local label = text:match("^%(?([A-Da-d1-4])%)?$") or text:match("^%(?([A-Da-d])[%).:]%s*%S")
    or text:match("^%(?([1-4])[%).:]%s+%S") or text:match("^[Oo]ption%s+([A-Da-d1-4])$") -- 2.5 is no option
  if not label then return nil end
  return tonumber(label) or label:upper():byte() - 64
end

--- True or false; yes and no count as well, in any case.
-- @param inside string
-- @return boolean or nil
function answers.truth(inside)
  local word = answers.plain(inside):lower()
  if word == "true" or word == "yes" then return true end
  if word == "false" or word == "no" then return false end
  return nil
end

-- A decimal as sign, digits without leading zeros, and how many of them stand after the point.
local function decimal(text)
  local sign, whole, fraction = text:match("^([+-]?)(%d*)%.?(%d*)$")
  if not sign or whole .. fraction == "" then return nil end
  if not text:find("%.") and fraction ~= "" then whole, fraction = whole .. fraction, "" end
  fraction = fraction:gsub("0+$", "")
  local digits = (whole .. fraction):gsub("^0+", "")
  if digits == "" then return { negative = false, digits = "0", places = 0 } end
  return { negative = sign == "-", digits = digits, places = #fraction }
end

local function value_of(d)
  return tonumber((d.negative and "-" or "") .. d.digits .. "e-" .. d.places)
end

-- "1,008" but not "1,2": thousands stand in threes
local function without_commas(text)
  local sign, head, rest, tail = text:match("^([+-]?)(%d%d?%d?)(,[%d,]*%d)(%.?%d*)$")
  if not head then return text end
  for group in rest:gmatch(",(%d*)") do
    if #group ~= 3 then return text end
  end
  return sign .. head .. rest:gsub(",", "") .. tail
end

local function fraction(text)
  local sign, whole, above, below = text:match("^([+-]?)(%d*)%s*\\[dt]?frac%s*{([^{}]+)}%s*{([^{}]+)}$")
  if not above then
    sign, whole, above, below = text:match("^([+-]?)(%d*)%s*\\[dt]?frac%s*(%d)%s*(%d)$")
  end
  if not above then
    sign, whole, above, below = text:match("^([+-]?)(%d+)%s+(%d+)%s*/%s*(%d+)$") -- 1 1/2
  end
  if not above then
    above, below = text:match("^([+-]?[%d.,]+)%s*/%s*([%d.,]+)$")
    sign, whole = "", ""
  end
  if not above then return nil end
  local a, b = decimal(without_commas(trim(above))), decimal(without_commas(trim(below)))
  if not a or not b then return nil end
  local divisor = value_of(b)
  if not divisor or divisor == 0 then return nil end
  local value = (tonumber(whole) or 0) + value_of(a) / divisor
  return sign == "-" and -value or value
end

local UNIT_BRACES = { "text", "textrm", "mathrm", "mbox" }

-- "12 \\text{ cm}^2" -> "12", "90^\\circ" -> "90", "4 apples" -> "4": a unit is words after the number, and a letter
-- alone is none but a variable
local function without_unit(text)
  text = text:gsub("%s*%^%s*{?\\circ}?$", ""):gsub("\u{b0}$", "")
  for _, braces in ipairs(UNIT_BRACES) do
    text = text:gsub("^(.*%d[%s})]*)\\" .. braces .. "%s*%b{}%^?{?%d?}?$", "%1")
  end
  local number, words = text:match("^(.*%d)%s+(%a[%a%s]*)$")
  if number and not (" " .. words .. " "):find("%s%a%s") then text = number end
  return trim(text)
end

--- A number as people and models write it: 1,008  $8  50%  1/2  \frac{1}{2}  -3.50  1.5e3  x = 4  12 \text{ cm}.
-- @param inside string  a box's content, or the gold answer as text
-- @return table or nil  { value = number, exact = { negative, digits, places } or nil, percent = boolean }
function answers.number(inside)
  if #inside > answers.most then return nil end
  local text = answers.plain((inside:gsub("\\[,!](%d%d%d)%f[%D]", "%1"))) -- 1\,008
  text = text:gsub("\u{2212}", "-"):gsub("\u{a0}", " "):gsub("\\%$", "$"):gsub("\\%%", "%%"):gsub("{,}", ",")
  text = text:gsub("\\left", ""):gsub("\\right", "")
  text = trim(text:match("^%a[%w_]*%s*=%s*(.+)$") or text)
  local percent
  text, percent = text:gsub("%s*%%$", "")
  text = without_unit(trim(text))
  for _, sign in ipairs { "%$", "\u{20ac}", "\u{a3}" } do text = text:gsub("^([+-]?)%s*" .. sign .. "%s*", "%1") end
  text = without_commas(text)
  local exact = decimal(text)
  local value
  if exact then
    value = value_of(exact)
  else
    local mantissa, power = text:match("^([+-]?[%d.]+)[eE]([+-]?%d+)$")
    if not mantissa then
      mantissa, power = text:match("^([+-]?[%d.]+)%s*\\times%s*10%s*%^%s*{?([+-]?%d+)}?$")
    end
    if mantissa and decimal(mantissa) then value = tonumber(mantissa .. "e" .. power) end
    value = value or fraction(text)
  end
  if not value or value ~= value or value == math.huge or value == -math.huge then return nil end
  return { value = value, exact = exact, percent = percent > 0 }
end

local TOLERANCE = 1e-4 -- facts of the evaluator that users know: absolute

--- Whether two parsed numbers are the same answer: exactly, or within 1e-4 where one is not exact or has a fraction.
-- 50% is both 50 and 0.5.
-- @param a table  of answers.number
-- @param b table
-- @return boolean
function answers.same_number(a, b)
  if a.exact and b.exact and a.exact.places == 0 and b.exact.places == 0 then
    return a.exact.negative == b.exact.negative and a.exact.digits == b.exact.digits
  end
  local function near(x, y) return math.abs(x - y) <= TOLERANCE end
  return near(a.value, b.value)
    or (a.percent and not b.percent and near(a.value / 100, b.value))
    or (b.percent and not a.percent and near(a.value, b.value / 100))
end

local ARTICLES = { a = true, an = true, the = true }

--- SQuAD's normal form: lower case, no ASCII punctuation, no articles, single spaces (Rajpurkar et al. 2016).
-- Departs from its script in that an article beside a dash or another sign beyond ASCII stays.
-- @param text string
-- @return string
function answers.normal(text)
  local words = {}
  for word in unicode.lower(text):gsub("[!-/:-@%[-`{-~]", ""):gsub("\u{a0}", " "):gmatch("%S+") do
    if not ARTICLES[word] then words[#words + 1] = word end
  end
  return table.concat(words, " ")
end

local function bag(text)
  local counts, total = {}, 0
  for word in text:gmatch("%S+") do
    counts[word] = (counts[word] or 0) + 1
    total = total + 1
  end
  return counts, total
end

--- Token F1 of two texts in normal form, and whether they are equal.
-- @param given string
-- @param gold string
-- @return number, boolean
function answers.overlap(given, gold)
  given, gold = answers.normal(given), answers.normal(gold)
  if given == gold then return 1.0, true end
  local a, na = bag(given)
  local b, nb = bag(gold)
  local common = 0
  for word, n in pairs(a) do common = common + math.min(n, b[word] or 0) end
  if common == 0 then return 0.0, false end
  return 2 * common / (na + nb), false
end

return answers
