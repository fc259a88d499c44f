--- values.lua: what a template works on: Python's values, made of Lua's.
--
-- str is a Lua string (UTF-8), int and float are Lua's two number subtypes, bool is a boolean. All else is a
-- table with a `kind`:
--   none        values.none, one of its kind
--   undefined   `why`: the sentence that using it raises
--   list tuple  [1 .. n], n; a tuple may have `names` (position by name)
--   dict        keys (list of n), map (value by key); in insertion order
--   view        what d.keys(), d.values() and d.items() give: [1 .. n], n, `name`
--   range       start, step, n
--   generator   what map, select and their like give: [1 .. n], n, `at` (taken so far), `name`
--   namespace   attributes (a dict)
--   macro loop method builtin cycler joiner    made in interpreter.lua and functions.lua
-- None of them has a metatable, nothing in a template can change one but a namespace, and no Lua table from
-- outside is ever reachable: values.import copies.
--
-- Lua tables become lists and dicts like this: a metatable field __jsontype of "array" or "object" decides
-- (what JSON decoders set); else 1..n without holes is a list, and any other table, the empty one too, is a
-- dict. A dict's order is the metatable's __order, a list of its keys, and then, or without it, sorted keys.
local unicode = require "wane.template.unicode"

local values = {}

local DEPTH = 64 -- of nested data from outside, of printing and of comparing

local none = { kind = "none" }
values.none = none

local nulls = setmetatable({ [none] = true }, { __mode = "k" })

--- Makes a value of the host (a JSON null) mean none in templates; returns it.
function values.null(value)
  if value == nil then error("null wants the value that stands for null", 2) end
  nulls[value] = true
  return value
end

local PYTHON_NAMES = {
  none = "NoneType", undefined = "Undefined", view = "dict view", namespace = "Namespace", macro = "Macro",
  loop = "LoopContext", method = "method", builtin = "function", cycler = "Cycler", joiner = "Joiner",
}

--- The kind of any value: "str", "int", "float", "bool" or its table's.
function values.kind(v)
  local t = type(v)
  if t == "table" then return v.kind end
  if t == "string" then return "str" end
  if t == "boolean" then return "bool" end
  return math.type(v) == "integer" and "int" or "float"
end

--- The name of its type as Python says it.
function values.type_name(v)
  local kind = values.kind(v)
  return PYTHON_NAMES[kind] or kind
end

function values.undefined(why) return { kind = "undefined", why = why } end

--- A list of the n values in `items`, which becomes the list itself.
function values.list(items, n, kind)
  items.kind, items.n = kind or "list", n or #items
  return items
end

--- What gives each of its n items once. @param name of what made it
function values.generator(rt, name, items, n)
  rt:charge(16 + 4 * n)
  return table.move(items, 1, n, 1, { kind = "generator", at = 0, n = n, name = name })
end

function values.dict() return { kind = "dict", n = 0, keys = {}, map = {} } end

-- A dict's inner key; nil where the value cannot be one. True is 1 and 1.0 is 1, as in Python.
local function inner_key(key)
  local t = type(key)
  if t == "string" or t == "number" then return key end
  if t == "boolean" then return key and 1 or 0 end
  if key == none then return none end
end

--- Sets a key; false where it is not hashable here (lists, dicts; tuples too, which templates do not use).
function values.put(dict, key, value)
  local inner = inner_key(key)
  if inner == nil or inner ~= inner then return false end
  if dict.map[inner] == nil then
    dict.n = dict.n + 1
    dict.keys[dict.n] = key
  end
  dict.map[inner] = value
  return true
end

--- The value of a key, or nil.
function values.get(dict, key)
  local inner = inner_key(key)
  if inner == nil then return nil end
  return dict.map[inner]
end

local function order_of(meta, t)
  local keys, seen = {}, {}
  local order = meta and meta.__order
  if type(order) == "table" then
    for _, key in ipairs(order) do
      if rawget(t, key) ~= nil and not seen[key] then
        keys[#keys + 1], seen[key] = key, true
      end
    end
  end
  local rest = {}
  for key in next, t do
    if not seen[key] then
      if type(key) ~= "string" then
        error(("a table for a template has the key %s; use strings, or 1..n for a list"):format(tostring(key)), 0)
      end
      rest[#rest + 1] = key
    end
  end
  table.sort(rest)
  return table.move(rest, 1, #rest, #keys + 1, keys)
end

local function import(v, depth, open)
  local t = type(v)
  if t == "string" or t == "boolean" or t == "number" then return v end
  if nulls[v] then return none end
  if t ~= "table" then error(("a template cannot use a Lua %s"):format(t), 0) end
  if depth == DEPTH then error(("data for a template is nested deeper than %d"):format(DEPTH), 0) end
  if open[v] then error("data for a template contains itself", 0) end
  open[v] = true
  local meta = getmetatable(v)
  if type(meta) ~= "table" then meta = nil end
  local json = meta and meta.__jsontype
  local out
  if json == "array" or (json == nil and rawget(v, 1) ~= nil) then
    local n = rawlen(v)
    out = { kind = "list", n = n }
    for key in next, v do
      if math.type(key) ~= "integer" or key < 1 or key > n then
        error(("a list for a template also has the key %s"):format(tostring(key)), 0)
      end
    end
    for i = 1, n do
      out[i] = import(rawget(v, i), depth + 1, open)
    end
  else
    out = values.dict()
    for i, key in ipairs(order_of(meta, v)) do
      out.keys[i], out.n = key, i
      out.map[key] = import(rawget(v, key), depth + 1, open)
    end
  end
  open[v] = nil
  return out
end

--- A template's value for a Lua value; raises a string where it has none.
function values.import(v)
  if v == nil then return values.none end
  return import(v, 0, {})
end

--- Python's truth of a value.
function values.truth(v)
  if v == true or v == false then return v end
  local t = type(v)
  if t == "string" then return v ~= "" end
  if t == "number" then return v ~= 0 end
  local kind = v.kind
  if kind == "none" or kind == "undefined" then return false end
  if kind == "generator" then return true end
  return v.n == nil or v.n > 0
end

--- A float as Python's repr has it: the fewest digits that give it back.
function values.float_text(x)
  if x ~= x then return "nan" end
  if x == math.huge then return "inf" elseif x == -math.huge then return "-inf" end
  local text
  local least = math.abs(x) < 2.3e-308 and 1 or 15 -- below: the subnormal numbers
  for digits = least, 17 do
    text = ("%." .. digits - 1 .. "e"):format(x)
    if tonumber(text) == x then break end
  end
  local sign, first, rest, exponent = text:match "^(-?)(%d)%.?(%d*)e([+-]%d+)$"
  exponent = tonumber(exponent)
  local all = (first .. rest):gsub("0+$", "")
  if all == "" then all = "0" end
  if exponent < -4 or exponent >= 16 then
    local fraction = #all > 1 and "." .. all:sub(2) or ""
    return ("%s%s%se%s%02d"):format(sign, all:sub(1, 1), fraction, exponent < 0 and "-" or "+", math.abs(exponent))
  end
  if exponent < 0 then return sign .. "0." .. ("0"):rep(-exponent - 1) .. all end
  if #all <= exponent + 1 then return sign .. all .. ("0"):rep(exponent + 1 - #all) .. ".0" end
  return sign .. all:sub(1, exponent + 1) .. "." .. all:sub(exponent + 2)
end

local SHORT = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\" }

local function escaped(character)
  if #character == 1 then return ("\\x%02x"):format(character:byte()) end
  local code = utf8.len(character) and utf8.codepoint(character)
  if not code or unicode.is_printable(code) then return character end
  if code < 0x100 then return ("\\x%02x"):format(code) end
  return (code < 0x10000 and "\\u%04x" or "\\U%08x"):format(code)
end

local function string_repr(s)
  local quote = s:find("'", 1, true) and not s:find('"', 1, true) and '"' or "'"
  s = s:gsub("[\n\r\t\\]", SHORT)
  if quote == "'" then s = s:gsub("'", "\\'") end
  s = s:gsub("[%c\x7F]", escaped)
  if not unicode.is_ascii(s) then s = s:gsub("[\xC2-\xF4][\x80-\xBF]+", escaped) end
  return quote .. s .. quote
end

local put_repr

local function put_all(rt, v, out, depth, opening, closing)
  if depth == DEPTH then rt:fail(("this value is nested deeper than %d"):format(DEPTH)) end
  rt:charge(16 + 8 * v.n)
  out[#out + 1] = opening
  for i = 1, v.n do
    if i > 1 then out[#out + 1] = ", " end
    put_repr(rt, v[i], out, depth + 1)
  end
  out[#out + 1] = closing
end

local function put_dict(rt, v, out, depth)
  if depth == DEPTH then rt:fail(("this value is nested deeper than %d"):format(DEPTH)) end
  rt:charge(16 + 24 * v.n)
  out[#out + 1] = "{"
  for i = 1, v.n do
    if i > 1 then out[#out + 1] = ", " end
    put_repr(rt, v.keys[i], out, depth + 1)
    out[#out + 1] = ": "
    put_repr(rt, values.get(v, v.keys[i]), out, depth + 1)
  end
  out[#out + 1] = "}"
end

local REPR = {
  str = function(_, v) return string_repr(v) end,
  int = function(_, v) return ("%d"):format(v) end,
  float = function(_, v) return values.float_text(v) end,
  bool = function(_, v) return v and "True" or "False" end,
  none = function() return "None" end,
  undefined = function() return "Undefined" end,
  range = function(_, v)
    local stop = v.start + v.n * v.step
    if v.stop then stop = v.stop end
    if v.step == 1 then return ("range(%d, %d)"):format(v.start, stop) end
    return ("range(%d, %d, %d)"):format(v.start, stop, v.step)
  end,
  list = function(rt, v, out, depth) put_all(rt, v, out, depth, "[", "]") end,
  tuple = function(rt, v, out, depth) put_all(rt, v, out, depth, "(", v.n == 1 and ",)" or ")") end,
  view = function(rt, v, out, depth) put_all(rt, v, out, depth, v.name .. "([", "])") end,
  dict = put_dict,
  namespace = function(rt, v, out, depth)
    out[#out + 1] = "<Namespace "
    put_dict(rt, v.attributes, out, depth)
    out[#out + 1] = ">"
  end,
}

function put_repr(rt, v, out, depth)
  local write = REPR[values.kind(v)]
  if not write then
    rt:fail(("a %s has no text; add |list to see what it gives"):format(v.name or values.type_name(v)), "unsupported")
  end
  local text = write(rt, v, out, depth)
  if text then out[#out + 1] = text end
  rt:charge(10 + (text and #text // 4 or 0))
end

--- Python's repr(v). @param rt the rendering, which is charged
function values.repr(rt, v)
  local out = {}
  put_repr(rt, v, out, 0)
  return table.concat(out)
end

--- Python's str(v): what {{ v }} writes.
function values.text(rt, v)
  local t = type(v)
  if t == "string" then return v end
  if t == "number" then return math.type(v) == "integer" and ("%d"):format(v) or values.float_text(v) end
  if t == "boolean" then return v and "True" or "False" end
  if v.kind == "undefined" then return "" end
  return values.repr(rt, v)
end

local function number_of(v)
  local t = type(v)
  if t == "number" then return v end
  if t == "boolean" then return v and 1 or 0 end
  return nil
end
--- The number a number or bool is; nil for all else.
values.number_of = number_of

local function equal(rt, a, b, depth)
  local x = number_of(a)
  if x then return x == number_of(b) end
  if type(a) == "string" then
    if type(b) ~= "string" or #a ~= #b then return false end
    rt:charge(#a >> 9)
    return a == b
  end
  if type(b) ~= "table" then return false end
  if a == b then return true end
  if a.kind ~= b.kind then return false end
  if a.kind == "undefined" then return true end
  if depth == DEPTH then rt:fail(("these values are nested deeper than %d"):format(DEPTH)) end
  if a.kind == "list" or a.kind == "tuple" then
    if a.n ~= b.n then return false end
    rt:charge(8 + 4 * a.n)
    for i = 1, a.n do
      if not equal(rt, a[i], b[i], depth + 1) then return false end
    end
    return true
  elseif a.kind == "dict" then
    if a.n ~= b.n then return false end
    rt:charge(8 + 4 * a.n)
    for inner, value in next, a.map do
      if b.map[inner] == nil or not equal(rt, value, b.map[inner], depth + 1) then return false end
    end
    return true
  elseif a.kind == "range" then
    return a.n == b.n and (a.n == 0 or a.start == b.start and (a.n == 1 or a.step == b.step))
  end
  return false
end

--- Python's a == b.
function values.equal(rt, a, b) return equal(rt, a, b, 0) end

--- Python's a < b; raises where the two have no order.
function values.less(rt, a, b)
  local x, y = number_of(a), number_of(b)
  if x and y then return x < y end
  if type(a) == "string" and type(b) == "string" then
    rt:charge(math.min(#a, #b) >> 5)
    return values.string_less(a, b)
  end
  local kind = values.kind(a)
  if (kind == "list" or kind == "tuple") and values.kind(b) == kind then
    for i = 1, math.min(a.n, b.n) do
      rt:charge(1)
      if not values.equal(rt, a[i], b[i]) then return values.less(rt, a[i], b[i]) end
    end
    return a.n < b.n
  end
  for _, v in ipairs { a, b } do
    if values.kind(v) == "undefined" then rt:fail(v.why) end
  end
  rt:fail(("%s and %s have no order"):format(values.type_name(a), values.type_name(b)))
end

--- Order by code points, which UTF-8 keeps byte for byte. Lua's own < follows the locale and stops at NUL.
function values.string_less(a, b)
  local size = math.min(#a, #b)
  local at = 1
  while at <= size do -- whole blocks while they are equal
    local stop = math.min(at + 255, size)
    if a:sub(at, stop) ~= b:sub(at, stop) then
      for i = at, stop do
        local x, y = a:byte(i), b:byte(i)
        if x ~= y then return x < y end
      end
    end
    at = stop + 1
  end
  return #a < #b
end

--- A function that gives the next item at each call and nil at the end; nil where v cannot be iterated.
function values.iterate(rt, v)
  local kind = values.kind(v)
  local i = 0
  if kind == "list" or kind == "tuple" or kind == "view" then
    return function()
      i = i + 1
      return v[i]
    end
  elseif kind == "dict" then
    return function()
      i = i + 1
      return v.keys[i]
    end
  elseif kind == "str" then
    rt:charge(8 * #v)
    local chars = unicode.chars(v)
    return function()
      i = i + 1
      return chars[i]
    end
  elseif kind == "range" then
    return function()
      if i == v.n then return nil end
      i = i + 1
      return v.start + (i - 1) * v.step
    end
  elseif kind == "generator" then
    return function()
      if v.at == v.n then return nil end
      v.at = v.at + 1
      return v[v.at]
    end
  elseif kind == "undefined" then
    return function() return nil end
  end
end

--- All items of v as a new plain table; raises where it cannot be iterated.
-- @return items, n
function values.items(rt, v)
  local take = values.iterate(rt, v)
  if not take then rt:fail(("%s is not iterable"):format(values.type_name(v))) end
  local items, n = {}, 0
  for item in take do
    n = n + 1
    items[n] = item
    rt:charge(8)
  end
  return items, n
end

--- len(v), or nil where it has none.
function values.length(rt, v)
  if type(v) == "string" then
    rt:charge(#v >> 4)
    return unicode.len(v)
  end
  if type(v) ~= "table" then return nil end
  local kind = v.kind
  if kind == "undefined" then return 0 end
  if kind == "list" or kind == "tuple" or kind == "dict" or kind == "view" or kind == "range" then return v.n end
end

return values
