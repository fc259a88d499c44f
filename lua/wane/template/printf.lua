--- printf.lua: Python's two ways to format: "..." % values and "...".format(values).
--
-- Source: the Python 3.11 documentation, "printf-style String Formatting" and "Format Specification
-- Mini-Language". Departures ("unsupported"): the # flag, * widths, attributes and nested fields in {},
-- a float's precision without a letter.
local unicode = require "wane.template.unicode"
local values = require "wane.template.values"

local printf = {}

local WIDEST = 100000

local function width_of(rt, text)
  local width = tonumber(text) or 0
  if width > WIDEST then rt:fail(("a field wider than %d"):format(WIDEST), "unsupported") end
  return width
end

local function pad(rt, text, width, align, fill)
  local missing = width - unicode.len(text)
  if missing <= 0 then return text end
  rt:charge(missing)
  if align == "<" then return text .. fill:rep(missing) end
  if align == ">" then return fill:rep(missing) .. text end
  if align == "^" then return fill:rep(missing // 2) .. text .. fill:rep(missing - missing // 2) end
  local sign, rest = text:match "^([+-]?)(.*)$" -- "=": between sign and digits
  return sign .. fill:rep(missing) .. rest
end

local function number_for(rt, v, letter)
  local x = values.number_of(v)
  if not x then
    if values.kind(v) == "undefined" then rt:fail(v.why) end
    rt:fail(("format %s wants a number, not %s"):format(letter, values.type_name(v)))
  end
  return x
end

local function whole_for(rt, v, letter)
  local x = number_for(rt, v, letter)
  if math.type(x) == "integer" then return x end
  local whole = math.tointeger(x < 0 and math.ceil(x) or math.floor(x))
  if not whole then rt:fail "a float that is no whole number of 64 bits" end
  return whole
end

local function in_base(x, base, digits)
  local out, left = {}, math.abs(x)
  repeat
    local d = left % base
    table.insert(out, 1, digits:sub(d + 1, d + 1))
    left = left // base
  until left == 0
  return (x < 0 and "-" or "") .. table.concat(out)
end

local BASES = { x = 16, X = 16, o = 8, b = 2 }

-- A number with a sign as letter and precision say. @return text
local function number_text(rt, v, letter, precision, sign, commas)
  local text
  if BASES[letter] then
    local x = whole_for(rt, v, letter)
    if x == math.mininteger then rt:fail("a whole number over 64 bits", "unsupported") end
    text = in_base(x, BASES[letter], letter == "X" and "0123456789ABCDEF" or "0123456789abcdef")
  elseif letter == "d" then
    text = ("%d"):format(whole_for(rt, v, letter))
  else
    local x = number_for(rt, v, letter) + 0.0
    local digits = precision and width_of(rt, precision) or 6
    if digits > 99 then rt:fail("more than 99 digits", "unsupported") end
    if letter == "%" then
      text = ("%." .. digits .. "f"):format(x * 100) .. "%"
    else
      text = ("%." .. digits .. letter):format(x)
    end
    text = text:gsub("^%-nan", "nan")
  end
  if commas then
    local head, whole, rest = text:match "^([+-]?)(%d+)(.*)$"
    if whole then
      whole = whole:reverse():gsub("%d%d%d", "%0,"):reverse():gsub("^,", "")
      text = head .. whole .. rest
    end
  end
  if (sign == "+" or sign == " ") and text:sub(1, 1) ~= "-" then text = sign .. text end
  return text
end

--- format % value
function printf.percent(rt, format, value)
  local kind = values.kind(value)
  local supply = kind == "tuple" and value or { value, n = 1 }
  local taken = 0
  local function take(name)
    if name then
      if kind ~= "dict" then rt:fail "format: %(name) wants a dict" end
      local v = values.get(value, name)
      if v == nil then rt:fail(("format: there is no key %q"):format(name)) end
      return v
    end
    taken = taken + 1
    if taken > supply.n then rt:fail "format: too few values" end
    return supply[taken]
  end
  local out, at = {}, 1
  while true do
    local percent = format:find("%", at, true)
    if not percent then break end
    out[#out + 1] = format:sub(at, percent - 1)
    local name, rest = format:match("^%%%(([^()]*)%)()", percent)
    local flags, width, dot, precision, letter, stop =
      format:match("^([-+ 0]*)(%d*)(%.?)(%d*)([%a%%])()", rest or percent + 1)
    if not letter then rt:fail("format: a broken % field", "unsupported") end
    rt:charge(8)
    local text, align = nil, flags:find("-", 1, true) and "<" or ">"
    local fill = " "
    local digits = dot == "." and (precision == "" and "0" or precision) or nil
    if letter == "%" then
      text = "%"
    elseif letter == "s" or letter == "r" or letter == "a" then
      text = letter == "s" and values.text(rt, take(name)) or values.repr(rt, take(name))
      if digits then text = unicode.slice(text, 0, math.min(width_of(rt, digits), unicode.len(text))) end
    elseif letter:find "[diufFeEgGxXo]" then
      local sign = flags:find("+", 1, true) and "+" or flags:find(" ", 1, true) and " " or nil
      local kinds = { i = "d", u = "d", F = "f" }
      text = number_text(rt, take(name), kinds[letter] or letter, digits, sign)
      if flags:find("0", 1, true) and align == ">" then align, fill = "=", "0" end
    else
      rt:fail(("format: %%%s is not supported"):format(letter), "unsupported")
    end
    out[#out + 1] = pad(rt, text, width_of(rt, width), align, fill)
    at = stop
  end
  local may_stay = kind == "dict" or kind == "list"
  if taken < supply.n and not may_stay then rt:fail "format: not every value was used" end
  out[#out + 1] = format:sub(at)
  return table.concat(out)
end

local function with_spec(rt, v, spec)
  if spec == "" then return values.text(rt, v) end
  local fill, align, rest = spec:match "^([^\x80-\xFF])([<>=^])(.*)$"
  if not fill then align, rest = spec:match "^([<>=^])(.*)$" end
  if not align then rest = spec end
  local sign, zero, width, commas, precision, letter = rest:match "^([-+ ]?)(0?)(%d*)(,?)%.?(%d*)([%a%%]?)$"
  if not sign then rt:fail(("format: the field %q is not supported"):format(spec), "unsupported") end
  if precision == "" then precision = nil end
  local text
  local kind = values.kind(v)
  if kind == "str" or (letter == "s" and kind ~= "int" and kind ~= "float") then
    if (letter ~= "" and letter ~= "s") or kind ~= "str" or sign ~= "" then
      rt:fail(("format: %q does not fit a %s"):format(spec, values.type_name(v)))
    end
    text = precision and unicode.slice(v, 0, math.min(width_of(rt, precision), unicode.len(v))) or v
    align = align or "<"
  else
    local x = number_for(rt, v, letter)
    if letter == "" then
      letter = math.type(x) == "integer" and "d" or nil
      if not letter and precision then rt:fail("format: a precision without a letter", "unsupported") end
    end
    if letter == "d" and math.type(x) ~= "integer" then rt:fail "format: d does not fit a float" end
    if letter and not letter:find "[dfFeEgGxXob%%]" then
      rt:fail(("format: %q is not supported"):format(spec), "unsupported")
    end
    if letter then
      text = number_text(rt, x, letter == "F" and "f" or letter, precision, sign, commas ~= "")
    else
      text = values.float_text(x)
      if sign ~= "" and sign ~= "-" and x >= 0 then text = sign .. text end
    end
    align = align or (zero ~= "" and "=" or ">")
  end
  if not fill then fill = zero ~= "" and "0" or " " end
  return pad(rt, text, width_of(rt, width), align, fill)
end

--- format.format(args..., named...)
function printf.braces(rt, format, args, named)
  local out, at, automatic = {}, 1, 0
  while true do
    local brace = format:find("[{}]", at)
    if not brace then break end
    out[#out + 1] = format:sub(at, brace - 1)
    local two = format:sub(brace, brace + 1)
    if two == "{{" or two == "}}" then
      out[#out + 1] = two:sub(1, 1)
      at = brace + 2
    else
      local name, conversion, spec, stop = format:match("^{([%w_]*)(!?[rs]?)(:?[^{}]*)}()", brace)
      if not name or (spec ~= "" and spec:sub(1, 1) ~= ":") or conversion == "!" then
        rt:fail("format: a {} field that is broken or not supported", "unsupported")
      end
      rt:charge(8)
      local v
      if name == "" then
        automatic = automatic + 1
        v = args[automatic]
      elseif name:find "^%d+$" then
        v = args[tonumber(name) + 1]
      else
        v = named and named.map[name]
      end
      if v == nil then rt:fail(("format: there is no value for {%s}"):format(name)) end
      if conversion == "!r" then v = values.repr(rt, v) elseif conversion == "!s" then v = values.text(rt, v) end
      out[#out + 1] = with_spec(rt, v, spec:sub(2))
      at = stop
    end
  end
  out[#out + 1] = format:sub(at)
  return table.concat(out)
end

return printf
