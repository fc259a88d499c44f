--- filters.lua: what may follow |.
--
-- Source: the Jinja 3.1 documentation, "List of Builtin Filters", and Transformers' own tojson. Entries are as
-- arguments.lua has them; the first argument of `call` after the rendering is the value. Those that work on
-- sequences are in sequences.lua. Left out, and refused
-- when a template is compiled: what escapes or makes HTML (escape, urlize, xmlattr, striptags, ...), random,
-- filesizeformat, pprint, wordcount, wordwrap. `safe` gives its text as it is, since nothing is escaped here.
local arguments = require "wane.template.arguments"
local operators = require "wane.template.operators"
local methods = require "wane.template.methods"
local tojson = require "wane.template.tojson"
local unicode = require "wane.template.unicode"
local values = require "wane.template.values"

local filters = {}

local none = values.none
local kind_of, text_of, whole_of, flag = values.kind, values.text, arguments.whole, arguments.flag

-- A method of str as a filter of any value's text
local function as_text(name, ...)
  local entry = { ... }
  entry.call = function(rt, v, a, b, c) return methods.str[name].call(rt, text_of(rt, v), a, b, c) end
  return entry
end
filters.upper, filters.lower = as_text "upper", as_text "lower"
filters.capitalize = as_text "capitalize"
filters.trim = as_text("strip", "chars")
filters.center = {
  "width",
  call = function(rt, v, width) return methods.str.center.call(rt, text_of(rt, v), width == nil and 80 or width) end,
}
filters.string = { call = function(rt, v) return text_of(rt, v) end }
filters.safe = filters.string

-- Jinja's own idea of words: they start after blanks, dashes and opening brackets
filters.title = {
  call = function(rt, v)
    local s = text_of(rt, v)
    rt:charge(8 * #s)
    return (s:gsub("[^%-%s({%[<]+", unicode.capitalize))
  end,
}

filters.replace = {
  "old", "new", "count", least = 2,
  call = function(rt, v, old, new, count)
    return methods.replace(rt, text_of(rt, v), text_of(rt, old), text_of(rt, new), count)
  end,
}

filters.format = {
  any = true,
  call = function(rt, v, args, named)
    local given = named and named.n > 0 and named or values.list(table.move(args, 1, args.n, 1, {}), args.n, "tuple")
    return operators.arithmetic(rt, "%", text_of(rt, v), given)
  end,
}

filters.indent = {
  "width", "first", "blank",
  call = function(rt, v, width, first, blank)
    local s = arguments.text(rt, "filter indent", v)
    local by = kind_of(width) == "str" and width or nil
    if not by then
      local n = math.max(whole_of(rt, "filter indent", width, 4), 0)
      rt:charge_product(n, 1, 4)
      by = (" "):rep(n)
    end
    local lines = methods.lines(rt, s .. "\n", false)
    rt:charge_product(lines.n, #by, 4)
    for i = 1, lines.n do
      local wanted = i == 1 and flag(first, false) or i > 1 and (flag(blank, false) or lines[i] ~= "")
      if wanted then lines[i] = by .. lines[i] end
    end
    return rt:join(lines, "\n", lines.n)
  end,
}

filters.truncate = {
  "length", "killwords", "end", "leeway",
  call = function(rt, v, length, killwords, ending, leeway)
    if kind_of(v) == "undefined" then return v end
    local s = arguments.text(rt, "filter truncate", v)
    length, leeway = whole_of(rt, "filter truncate", length, 255), whole_of(rt, "filter truncate", leeway, 5)
    ending = ending == nil and "..." or arguments.text(rt, "filter truncate", ending)
    local keep = length - unicode.len(ending)
    if keep < 0 or leeway < 0 then rt:fail "filter truncate: the length is too small" end
    if values.length(rt, s) <= length + leeway then return s end
    local head = unicode.slice(s, 0, keep)
    local space = not flag(killwords, false) and rt:find_last(head, " ")
    if space then head = head:sub(1, space - 1) end
    return rt:made(head .. ending)
  end,
}

filters.tojson = {
  "ensure_ascii", "indent", "separators", "sort_keys",
  call = function(rt, v, ensure_ascii, indent, separators, sort_keys)
    local options = { only_ascii = flag(ensure_ascii, false), sort_keys = flag(sort_keys, false) }
    if kind_of(indent or none) == "str" then
      options.indent = indent
    elseif indent ~= nil and indent ~= none then
      local width = math.max(whole_of(rt, "filter tojson", indent), 0)
      if width > 1000 then rt:fail("filter tojson: an indent over 1000", "unsupported") end
      options.indent = (" "):rep(width)
    end
    if separators ~= nil and separators ~= none then
      local pair, n = values.items(rt, separators)
      if n ~= 2 or type(pair[1]) ~= "string" or type(pair[2]) ~= "string" then
        rt:fail "filter tojson: separators are two texts"
      end
      options.between, options.colon = pair[1], pair[2]
    end
    return tojson.write(rt, arguments.defined(rt, v), options)
  end,
}

filters.default = {
  "default_value", "boolean",
  call = function(_, v, otherwise, boolean)
    if otherwise == nil then otherwise = "" end
    if kind_of(v) == "undefined" or flag(boolean, false) and not values.truth(v) then return otherwise end
    return v
  end,
}
filters.d = filters.default

-- The number that text starts to be for Python's float(): nil where it is none
local function float_of(text)
  text = unicode.strip(text, "both")
  if text:find "^[+-]?%d[%d_]*%.?[%d_]*[eE]?[+-]?[%d]*$" or text:find "^[+-]?%.%d[%d_]*[eE]?[+-]?[%d]*$" then
    if text:find "__" or text:find "_$" or text:find "_[.eE]" or text:find "[.eE]_" then return nil end
    local x = tonumber((text:gsub("_", ""):gsub("^%+", "")))
    return x and x + 0.0
  end
  local sign, word = text:lower():match "^([+-]?)(%a+)$"
  local x
  if word == "inf" or word == "infinity" then x = math.huge elseif word == "nan" then x = 0.0 / 0.0 end
  return x and (sign == "-" and -x or x)
end

local function whole_from_text(rt, text, base)
  text = unicode.strip(text, "both"):lower()
  local sign, digits = text:match "^([+-]?)(%w[%w_]*)$"
  if not digits or digits:find "__" or digits:find "_$" then return nil end
  for prefix, of in pairs { ["0x"] = 16, ["0o"] = 8, ["0b"] = 2 } do
    if base == of or base == 0 then
      if digits:sub(1, 2) == prefix then digits, base = digits:sub(3), of end
    end
  end
  digits = digits:gsub("_", "")
  local x = tonumber(digits, base == 0 and 10 or base)
  if not x then return nil end
  if #digits > 18 and math.abs(tonumber(digits, 10) and tonumber(digits .. ".0") or 2.0 ^ 64) >= 2.0 ^ 63 then
    rt:fail("a whole number over 64 bits", "unsupported")
  end
  return sign == "-" and -x or x
end

filters.int = {
  "default", "base",
  call = function(rt, v, default, base)
    if default == nil then default = 0 end
    arguments.defined(rt, v)
    local x = values.number_of(v)
    if type(v) == "string" then
      base = whole_of(rt, "filter int", base, 10)
      if base ~= 0 and (base < 2 or base > 36) then rt:fail "filter int: a base of 0 or 2 to 36" end
      x = #v < 400 and (whole_from_text(rt, v, base) or float_of(v)) or nil
    end
    if not x or x ~= x or x == math.huge or x == -math.huge then return default end
    if math.type(x) == "integer" then return x end
    local whole = math.tointeger(x < 0 and math.ceil(x) or math.floor(x))
    if not whole then rt:fail("a whole number over 64 bits", "unsupported") end
    return whole
  end,
}

filters.float = {
  "default",
  call = function(rt, v, default)
    arguments.defined(rt, v)
    local x = values.number_of(v)
    if type(v) == "string" then x = #v < 400 and float_of(v) or nil end
    if x then return x + 0.0 end
    if default == nil then return 0.0 end
    return default
  end,
}

local function number(rt, label, v)
  local x = values.number_of(arguments.defined(rt, v))
  if not x then rt:fail(("%s wants a number, not %s"):format(label, values.type_name(v))) end
  return x
end

filters.abs = {
  call = function(rt, v)
    local x = number(rt, "filter abs", v)
    return x < 0 and operators.signed(rt, "-", x) or x
  end,
}

-- Half to even at that many digits, as Python's round
local function round_even(x, digits)
  if math.type(x) == "integer" then
    if digits >= 0 then return x end
    if digits < -18 then return 0 end
    local unit = math.tointeger(10 ^ -digits)
    local low = x // unit * unit
    local rest = x - low
    local up = rest * 2 > unit or (rest * 2 == unit and low // unit % 2 == 1)
    return up and low + unit or low
  end
  if x ~= x or math.abs(x) == math.huge or digits > 99 then return x end
  if digits >= 0 then return tonumber(("%." .. digits .. "f"):format(x)) + 0.0 end
  local unit = 10.0 ^ -digits
  if unit == math.huge then return 0.0 * x end
  local low = math.floor(x / unit)
  local rest = x / unit - low
  local up = rest > 0.5 or (rest == 0.5 and low % 2 == 1)
  return (up and low + 1 or low) * unit
end

filters.round = {
  "precision", "method",
  call = function(rt, v, precision, method)
    local x, digits = number(rt, "filter round", v), whole_of(rt, "filter round", precision, 0)
    if method == nil or method == "common" then return round_even(x, digits) end
    if method ~= "ceil" and method ~= "floor" then rt:fail "filter round: method must be common, ceil or floor" end
    local scale = 10.0 ^ digits
    local whole = math[method](x * scale)
    return whole / scale
  end,
}

require("wane.template.sequences").add(filters)

return filters
