--- operators.lua: what Python's operators, subscripts and attributes do to a template's values.
--
-- Every function takes the rendering first: it is charged for what is made and raises where Python would.
-- Departures: whole numbers have 64 bits, and a result beyond them is an error ("unsupported").
local loops = require "wane.template.loops"
local methods = require "wane.template.methods"
local printf = require "wane.template.printf"
local unicode = require "wane.template.unicode"
local values = require "wane.template.values"

local operators = {}

local kind_of, number_of, type_name = values.kind, values.number_of, values.type_name

local function refuse(rt, operator, a, b)
  if kind_of(a) == "undefined" then rt:fail(a.why) end
  if kind_of(b) == "undefined" then rt:fail(b.why) end
  if operator == "+" and kind_of(a) == "str" then
    rt:fail(("can only add str to str, not %s"):format(type_name(b)))
  end
  rt:fail(("%s does not go between %s and %s"):format(operator, type_name(a), type_name(b)))
end

local function overflow(rt) rt:fail("a whole number over 64 bits", "unsupported") end

local function both_whole(x, y) return math.type(x) == "integer" and math.type(y) == "integer" end

local function multiply(rt, x, y)
  local r = x * y
  if both_whole(x, y) and x ~= 0 and (r // x ~= y or (x == -1 and y == math.mininteger)) then overflow(rt) end
  return r
end

local function power(rt, x, y)
  if both_whole(x, y) and y >= 0 then
    local r = 1
    while y > 0 do
      if y & 1 == 1 then r = multiply(rt, r, x) end
      y = y >> 1
      if y > 0 then x = multiply(rt, x, x) end
    end
    return r
  end
  if x == 0 and y < 0 then rt:fail("0 to a negative power") end
  if x < 0 and y ~= math.floor(y) then rt:fail("a negative number to a broken power", "unsupported") end
  local r = (x + 0.0) ^ y
  if r == math.huge and x < math.huge and y < math.huge then rt:fail("the power is too large for a float") end
  return r
end

local NUMERIC = {
  ["+"] = function(rt, x, y)
    local r = x + y
    if both_whole(x, y) and (x ~ r) & (y ~ r) < 0 then overflow(rt) end
    return r
  end,
  ["-"] = function(rt, x, y)
    local r = x - y
    if both_whole(x, y) and (x ~ y) & (x ~ r) < 0 then overflow(rt) end
    return r
  end,
  ["*"] = multiply,
  ["/"] = function(rt, x, y)
    if y == 0 then rt:fail("division by zero") end
    return x / y
  end,
  ["//"] = function(rt, x, y)
    if y == 0 then rt:fail("division by zero") end
    if y == -1 and x == math.mininteger then overflow(rt) end
    return x // y
  end,
  ["%"] = function(rt, x, y)
    if y == 0 then rt:fail("modulo by zero") end
    return x % y
  end,
  ["**"] = power,
}

-- n copies of text or of a list
local function repeated(rt, v, n)
  n = math.max(n, 0)
  if type(v) == "string" then
    rt:charge_product(#v, n, 4)
    return v:rep(n)
  end
  rt:charge_product(v.n, n, 0.125)
  local out = {}
  for i = 0, n - 1 do
    table.move(v, 1, v.n, i * v.n + 1, out)
  end
  return values.list(out, v.n * n, v.kind)
end

--- Two operands of + - * / // % **.
function operators.arithmetic(rt, operator, a, b)
  local x, y = number_of(a), number_of(b)
  if x and y then return NUMERIC[operator](rt, x, y) end
  local left, right = kind_of(a), kind_of(b)
  if operator == "+" then
    if left == "str" and right == "str" then
      rt:charge((#a + #b) // 4)
      return a .. b
    end
    if left == right and (left == "list" or left == "tuple") then
      rt:charge(16 + 8 * (a.n + b.n))
      local out = table.move(a, 1, a.n, 1, {})
      return values.list(table.move(b, 1, b.n, a.n + 1, out), a.n + b.n, left)
    end
  elseif operator == "*" then
    local countable = { str = true, list = true, tuple = true }
    if countable[left] and math.type(y) == "integer" then return repeated(rt, a, y) end
    if countable[right] and math.type(x) == "integer" then return repeated(rt, b, x) end
  elseif operator == "%" and left == "str" then
    return rt:made(printf.percent(rt, a, b))
  end
  refuse(rt, operator, a, b)
end

--- -v and +v.
function operators.signed(rt, sign, v)
  local x = number_of(v)
  if not x then
    if kind_of(v) == "undefined" then rt:fail(v.why) end
    rt:fail(("%s does not go before %s"):format(sign, type_name(v)))
  end
  if sign == "+" then return x end
  if x == math.mininteger then overflow(rt) end
  return -x
end

--- item in container
function operators.contains(rt, container, item)
  local kind = kind_of(container)
  if kind == "str" then
    if type(item) ~= "string" then
      if kind_of(item) == "undefined" then rt:fail(item.why) end
      rt:fail(("in: a str can only contain a str, not %s"):format(type_name(item)))
    end
    return rt:find(container, item, 1) ~= nil
  elseif kind == "dict" then
    local hashable = kind_of(item)
    if hashable == "list" or hashable == "dict" then rt:fail(("in: a %s is no key"):format(hashable)) end
    return values.get(container, item) ~= nil
  end
  local take = values.iterate(rt, container)
  if not take then rt:fail(("in: %s is not iterable"):format(type_name(container))) end
  for other in take do
    rt:charge(1)
    if values.equal(rt, other, item) then return true end
  end
  return false
end

local COMPARE = {
  ["=="] = values.equal,
  ["!="] = function(rt, a, b) return not values.equal(rt, a, b) end,
  ["<"] = values.less,
  [">"] = function(rt, a, b) return values.less(rt, b, a) end,
  ["<="] = function(rt, a, b) return values.equal(rt, a, b) and not values.less(rt, a, b) or values.less(rt, a, b) end,
  [">="] = function(rt, a, b) return values.equal(rt, a, b) and not values.less(rt, b, a) or values.less(rt, b, a) end,
  ["in"] = function(rt, a, b) return operators.contains(rt, b, a) end,
  ["not in"] = function(rt, a, b) return not operators.contains(rt, b, a) end,
}

--- == != < > <= >= in, not in
function operators.compare(rt, operator, a, b) return COMPARE[operator](rt, a, b) end

-- Python's slice.indices: first, last (0-based, half open in the direction of step), count
local function indices(rt, n, start, stop, step)
  step = step == values.none and 1 or step
  if step == 0 then rt:fail("a slice with step 0") end
  local low, high = 0, n
  if step < 0 then low, high = -1, n - 1 end
  local function bound(v, otherwise)
    if v == values.none then return otherwise end
    if v < 0 then v = v + n end
    return v < low and low or v > high and high or v
  end
  local first = bound(start, step > 0 and low or high)
  local last = bound(stop, step > 0 and high or low)
  local count
  if step > 0 then count = (last - first + step - 1) // step else count = (first - last - step - 1) // -step end
  return first, last, step, math.max(count, 0)
end

--- v[start:stop:step]; each of the three is a value, none where absent.
function operators.slice(rt, v, start, stop, step)
  local kind = kind_of(v)
  if kind == "undefined" then rt:fail(v.why) end
  local bounds = { start, stop, step }
  for i = 1, 3 do
    local number = number_of(bounds[i])
    if bounds[i] ~= values.none and math.type(number) ~= "integer" then
      if kind_of(bounds[i]) == "undefined" then rt:fail(bounds[i].why) end
      rt:fail(("a slice wants whole numbers, not %s"):format(type_name(bounds[i])))
    end
    bounds[i] = number and math.max(math.min(number, 1 << 52), -(1 << 52)) or values.none
  end
  if kind ~= "str" and kind ~= "list" and kind ~= "tuple" and kind ~= "range" then
    rt:fail(("%s cannot be sliced"):format(type_name(v)))
  end
  local n = values.length(rt, v)
  local first, last, by, count = indices(rt, n, bounds[1], bounds[2], bounds[3])
  if kind == "str" then
    if by == 1 then
      rt:charge(#v >> 4)
      return rt:made(unicode.slice(v, first, last))
    end
    rt:charge(8 * #v + 16 * count)
    local chars, out = unicode.chars(v), {}
    for i = 1, count do
      out[i] = chars[first + (i - 1) * by + 1]
    end
    return table.concat(out)
  elseif kind == "range" then
    return {
      kind = "range", n = count, start = v.start + first * v.step, step = v.step * by,
      stop = v.start + last * v.step,
    }
  end
  rt:charge(16 + 8 * count)
  local out = {}
  for i = 1, count do
    out[i] = v[first + (i - 1) * by + 1]
  end
  return values.list(out, count, kind)
end

local function missing(rt, v, what, name)
  rt:charge(16)
  if what == "element" then
    return values.undefined(("%s object has no element %s"):format(type_name(v), values.text(rt, name)))
  end
  return values.undefined(("'%s object' has no attribute '%s'"):format(type_name(v), name))
end

--- v.name
function operators.attribute(rt, v, name)
  local kind = kind_of(v)
  if kind == "undefined" then rt:fail(v.why) end
  local own = methods[kind]
  if own and own[name] then
    rt:charge(24)
    return { kind = "method", target = v, name = name }
  end
  if kind == "dict" then
    if methods.forbidden[name] then
      return values.undefined(("%s would change a dict, which templates may not"):format(name))
    end
    local found = v.map[name]
    if found ~= nil then return found end
  elseif kind == "namespace" then
    local found = v.attributes.map[name]
    if found ~= nil then return found end
  elseif kind == "loop" and loops.attributes[name] then
    return loops.attributes[name](v)
  elseif kind == "macro" and (name == "name" or name == "arguments") then
    return v[name]
  elseif kind == "cycler" and name == "current" then
    return v[v.at]
  elseif kind == "tuple" and v.names and v.names[name] then
    return v[v.names[name]]
  end
  return missing(rt, v, "attribute", name)
end

--- v[index]
function operators.item(rt, v, index)
  local kind = kind_of(v)
  if kind == "undefined" then rt:fail(v.why) end
  if kind == "dict" then
    local found = values.get(v, index)
    if found ~= nil then return found end
  elseif kind == "list" or kind == "tuple" or kind == "range" or kind == "str" then
    local i = number_of(index)
    if math.type(i) == "integer" then
      local n = values.length(rt, v)
      if i < 0 then i = i + n end
      if i < 0 or i >= n then return missing(rt, v, "element", index) end
      if kind == "str" then
        rt:charge(1 + (#v >> 4))
        return unicode.slice(v, i, i + 1)
      end
      if kind == "range" then return v.start + i * v.step end
      return v[i + 1]
    end
  end
  if type(index) == "string" then return operators.attribute(rt, v, index) end
  return missing(rt, v, "element", index)
end

return operators
