--- methods.lua: the methods of str, dict, list and tuple that templates may call.
--
-- Source: the Python 3.11 documentation, "Built-in Types". Each entry is as arguments.lua has it; the first
-- argument of `call` after the rendering is the object. Nothing here changes a value: `forbidden` lists the
-- names that would, so that a template that uses one is refused when it is compiled, as Jinja's sandbox
-- refuses it when it runs. Departures: the is...() predicates know ASCII and cased letters only.
local arguments = require "wane.template.arguments"
local printf = require "wane.template.printf"
local unicode = require "wane.template.unicode"
local values = require "wane.template.values"

local methods = {}

local none = values.none
local text_of, whole_of = arguments.text, arguments.whole

local str = {}
methods.str = str

local function member_set(rt, label, chars)
  if chars == nil or chars == none then return nil end
  local set = {}
  for _, character in ipairs((unicode.chars(text_of(rt, label, chars)))) do
    set[character] = true
  end
  rt:charge(8 * #chars)
  return set
end

for name, side in pairs { strip = "both", lstrip = "left", rstrip = "right" } do
  str[name] = {
    "chars",
    call = function(rt, s, chars)
      local out = unicode.strip(s, side, member_set(rt, name, chars))
      rt:charge((#s - #out) * 4 + (#s ~= #out and #out >> 2 or 0))
      return out
    end,
  }
end

for name, weight in pairs { upper = 1, lower = 1, title = 8, capitalize = 8, swapcase = 8 } do
  str[name] = {
    call = function(rt, s)
      rt:charge(unicode.is_ascii(s) and name ~= "title" and weight == 1 and #s // 4 or weight * #s)
      return unicode[name](s)
    end,
  }
end

-- s between two code points as Python's find, count and startswith take them; nil where they lie outside
local function part(rt, label, s, start, stop)
  if (start == nil or start == none) and (stop == nil or stop == none) then return s, 0 end
  local n = values.length(rt, s)
  local first, last = whole_of(rt, label, start, 0), whole_of(rt, label, stop, n)
  if first < 0 then first = math.max(first + n, 0) end
  if last < 0 then last = math.max(last + n, 0) end
  if first > n then return nil end
  return rt:made(unicode.slice(s, first, math.max(first, math.min(last, n)))), first, last < first
end

for name, finds in pairs {
  startswith = function(s, x) return s:sub(1, #x) == x end,
  endswith = function(s, x) return x == "" or (#x <= #s and s:sub(-#x) == x) end,
} do
  str[name] = {
    name == "startswith" and "prefix" or "suffix", "start", "end", least = 1,
    call = function(rt, s, wanted, start, stop)
      local within, _, crossed = part(rt, name, s, start, stop)
      local list = values.kind(wanted) == "tuple" and wanted or { wanted, n = 1 }
      for i = 1, list.n do
        local x = text_of(rt, name, list[i])
        rt:charge(1 + (#x >> 2))
        if within and not crossed and finds(within, x) then return true end
      end
      return false
    end,
  }
end

local function finder(name, from_right, raises)
  return {
    "sub", "start", "end", least = 1,
    call = function(rt, s, sub, start, stop)
      local within, offset, crossed = part(rt, name, s, start, stop)
      local wanted, found = text_of(rt, name, sub), nil
      if within and not crossed then
        if from_right then
          found = rt:find_last(within, wanted)
        else
          found = rt:find(within, wanted, 1)
        end
      end
      if found then return offset + unicode.count_before(within, found) end
      if raises then rt:fail(name .. ": the text was not found") end
      return -1
    end,
  }
end
str.find, str.index = finder("find", false, false), finder("index", false, true)
str.rfind, str.rindex = finder("rfind", true, false), finder("rindex", true, true)

str.count = {
  "sub", "start", "end", least = 1,
  call = function(rt, s, sub, start, stop)
    local within, _, crossed = part(rt, "count", s, start, stop)
    text_of(rt, "count", sub)
    if not within or crossed then return 0 end
    if sub == "" then return values.length(rt, within) + 1 end
    local count, at = 0, 1
    while true do
      local found = rt:find(within, sub, at)
      if not found then return count end
      count, at = count + 1, found + #sub
    end
  end,
}

local function replace(rt, s, old, new, count)
  text_of(rt, "replace", old)
  text_of(rt, "replace", new)
  local left = whole_of(rt, "replace", count, -1)
  if left < 0 then left = math.maxinteger end
  local out, n = {}, 0
  local function put(text)
    n = n + 1
    out[n] = text
    rt:charge(8)
  end
  if old == "" then
    rt:charge(8 * #s)
    for i, character in ipairs((unicode.chars(s))) do
      if left >= i then put(new) end
      put(character)
    end
    if left > values.length(rt, s) then put(new) end
  else
    local at = 1
    while left > 0 do
      local found = rt:find(s, old, at)
      if not found then break end
      put(s:sub(at, found - 1))
      put(new)
      at, left = found + #old, left - 1
    end
    if at == 1 then return s end
    put(s:sub(at))
  end
  return rt:join(out, "", n)
end
str.replace = { "old", "new", "count", least = 2, call = replace }
methods.replace = replace

-- The byte after the word that starts at `at`
local function word_end(s, at)
  while at <= #s do
    local byte = s:byte(at)
    local size = byte < 0x80 and 1 or byte < 0xE0 and 2 or byte < 0xF0 and 3 or 4
    if unicode.is_space(s:sub(at, at + size - 1)) then break end
    at = at + size
  end
  return math.min(at, #s + 1)
end

-- The pieces of s at white space, from the left, at most `most` cuts
local function words(rt, s, most)
  local out, n = {}, 0
  local plain = not s:find "[\xC2\xE1-\xE3]" -- no white space but ASCII's
  if not plain then rt:charge(2 * #s) end
  local at = unicode.skip_space(s, 1)
  while at <= #s do
    n = n + 1
    rt:charge(8)
    if n > most then
      out[n] = s:sub(at)
      break
    end
    local stop = plain and s:match("^[^\t-\r\x1C-\x20]*()", at) or word_end(s, at)
    out[n] = s:sub(at, stop - 1)
    at = unicode.skip_space(s, stop)
  end
  return values.list(out, n)
end

-- The same from the right
local function words_from_right(rt, s, most)
  local all = words(rt, s, math.maxinteger)
  if all.n <= most + 1 then return all end
  -- what is left of the last `most` words, and without the blanks around it
  local kept, at = all.n - most, unicode.skip_space(s, 1)
  for i = 1, kept do
    if i > 1 then at = unicode.skip_space(s, at) end
    at = at + #all[i]
  end
  rt:charge(8 * most + #s // 4)
  local first = s:sub(unicode.skip_space(s, 1), at - 1)
  return values.list(table.move(all, kept + 1, all.n, 2, { first }), most + 1)
end

local function cut(rt, s, sep, most)
  local out, n, at = {}, 0, 1
  while n < most do
    local found = rt:find(s, sep, at)
    if not found then break end
    n = n + 1
    out[n] = s:sub(at, found - 1)
    at = found + #sep
    rt:charge(8)
  end
  out[n + 1] = s:sub(at)
  return values.list(out, n + 1)
end

local function cut_from_right(rt, s, sep, most)
  local pieces, n, stop = {}, 0, #s
  while n < most do
    local found = rt:find_last(s:sub(1, stop), sep)
    if not found then break end
    n = n + 1
    pieces[n] = s:sub(found + #sep, stop)
    stop = found - 1
    rt:charge(8 + stop // 4)
  end
  local out = { s:sub(1, stop) }
  for i = n, 1, -1 do
    out[#out + 1] = pieces[i]
  end
  return values.list(out, n + 1)
end

local function splitter(name, by_space, by_text)
  return {
    "sep", "maxsplit",
    call = function(rt, s, sep, maxsplit)
      local most = whole_of(rt, name, maxsplit, -1)
      if most < 0 then most = math.maxinteger end
      rt:made(s)
      if sep == nil or sep == none then return by_space(rt, s, most) end
      if text_of(rt, name, sep) == "" then rt:fail(name .. ": an empty separator") end
      return by_text(rt, s, sep, most)
    end,
  }
end
str.split = splitter("split", words, cut)
str.rsplit = splitter("rsplit", words_from_right, cut_from_right)

--- The lines of s. @param keeps whether each line keeps its end
function methods.lines(rt, s, keeps)
  local out, n, start, at = {}, 0, 1, 1
  rt:made(s)
  while true do
    local first = s:find("[\n\r\v\f\x1C-\x1E\xC2\xE2]", at)
    if not first then break end
    local stop = s:match("^\r\n()", first) or s:match("^[\n\r\v\f\x1C-\x1E]()", first)
      or s:match("^\xC2\x85()", first) or s:match("^\xE2\x80[\xA8\xA9]()", first)
    if stop then
      n = n + 1
      out[n] = s:sub(start, keeps and stop - 1 or first - 1)
      rt:charge(8)
      start = stop
    end
    at = stop or first + 1
  end
  if start <= #s then
    n = n + 1
    out[n] = s:sub(start)
  end
  return values.list(out, n)
end

str.splitlines = {
  "keepends",
  call = function(rt, s, keepends) return methods.lines(rt, s, arguments.flag(keepends, false)) end,
}

str.join = {
  "iterable", least = 1,
  call = function(rt, s, iterable)
    local items, n = values.items(rt, iterable)
    for i = 1, n do
      text_of(rt, "join", items[i])
    end
    return rt:join(items, s, n)
  end,
}

local function partition(name, from_right)
  return {
    "sep", least = 1,
    call = function(rt, s, sep)
      if text_of(rt, name, sep) == "" then rt:fail(name .. ": an empty separator") end
      local found
      if from_right then found = rt:find_last(s, sep) else found = rt:find(s, sep, 1) end
      rt:made(s)
      if found then return values.list({ s:sub(1, found - 1), sep, s:sub(found + #sep) }, 3, "tuple") end
      return values.list(from_right and { "", "", s } or { s, "", "" }, 3, "tuple")
    end,
  }
end
str.partition, str.rpartition = partition("partition", false), partition("rpartition", true)

str.removeprefix = {
  "prefix", least = 1,
  call = function(rt, s, prefix)
    if s:sub(1, #text_of(rt, "removeprefix", prefix)) ~= prefix then return s end
    return rt:made(s:sub(#prefix + 1))
  end,
}
str.removesuffix = {
  "suffix", least = 1,
  call = function(rt, s, suffix)
    if text_of(rt, "removesuffix", suffix) == "" or s:sub(-#suffix) ~= suffix then return s end
    return rt:made(s:sub(1, #s - #suffix))
  end,
}

for name, side in pairs { ljust = "left", rjust = "right", center = "center" } do
  str[name] = {
    "width", "fillchar", least = 1,
    call = function(rt, s, width, fillchar)
      local missing = whole_of(rt, name, width) - values.length(rt, s)
      local fill = fillchar and text_of(rt, name, fillchar) or " "
      if unicode.len(fill) ~= 1 then rt:fail(name .. ": the fill must be one character") end
      if missing <= 0 then return s end
      rt:charge_product(missing, #fill, 4)
      local left = side == "left" and 0 or side == "right" and missing
        or missing // 2 + (missing & (missing + unicode.len(s)) & 1)
      return fill:rep(left) .. s .. fill:rep(missing - left)
    end,
  }
end

str.zfill = {
  "width", least = 1,
  call = function(rt, s, width)
    local missing = whole_of(rt, "zfill", width) - values.length(rt, s)
    if missing <= 0 then return s end
    rt:charge_product(missing, 1, 4)
    local sign, rest = s:match "^([+-]?)(.*)$"
    return sign .. ("0"):rep(missing) .. rest
  end,
}

str.format = {
  any = true,
  call = function(rt, s, args, named) return rt:made(printf.braces(rt, s, args, named)) end,
}

-- is...(): not empty, and every character passes
local function predicate(name, passes)
  return {
    call = function(rt, s)
      rt:charge(8 * #s)
      local chars, n = unicode.chars(s)
      for i = 1, n do
        local verdict = passes(chars[i])
        if verdict == nil then
          rt:fail(("%s of %s is not supported"):format(name, chars[i]), "unsupported")
        end
        if not verdict then return false end
      end
      return n > 0
    end,
  }
end

-- true, false, or nil where it would take the tables of all scripts to know
local function is_letter(c)
  if #c == 1 then return c:find "%a" ~= nil end
  if unicode.is_cased(c) then return true end
  if unicode.is_space(c) then return false end
end
local function is_digit(c)
  if #c == 1 then return c:find "%d" ~= nil end
  if unicode.is_cased(c) or unicode.is_space(c) then return false end
end
str.isspace = predicate("isspace", unicode.is_space)
str.isalpha = predicate("isalpha", is_letter)
for _, name in ipairs { "isdigit", "isdecimal", "isnumeric" } do
  str[name] = predicate(name, is_digit)
end
str.isalnum = predicate("isalnum", function(c)
  local letter = is_letter(c)
  if letter == nil then return nil end
  return letter or is_digit(c)
end)

for name, convert in pairs { isupper = unicode.upper, islower = unicode.lower } do
  str[name] = {
    call = function(rt, s)
      rt:charge(#s)
      return convert(s) == s and unicode.upper(s) ~= unicode.lower(s)
    end,
  }
end

local dict = {}
methods.dict = dict

dict.get = {
  "key", "default", least = 1,
  call = function(_, d, key, default)
    local found = values.get(d, key)
    if found ~= nil then return found end
    if default == nil then return none end
    return default
  end,
}
dict.copy = { call = function(_, d) return d end }

local function view(name, pick)
  return {
    call = function(rt, d)
      rt:charge(16 + 8 * d.n)
      local out = { name = "dict_" .. name }
      for i = 1, d.n do
        out[i] = pick(rt, d.keys[i], values.get(d, d.keys[i]))
      end
      return values.list(out, d.n, "view")
    end,
  }
end
dict.keys = view("keys", function(_, key) return key end)
dict.values = view("values", function(_, _, value) return value end)
dict.items = view("items", function(rt, key, value)
  rt:charge(32)
  return values.list({ key, value }, 2, "tuple")
end)

local list, tuple = {}, {}
methods.list, methods.tuple = list, tuple

list.count = {
  "value", least = 1,
  call = function(rt, l, wanted)
    local count = 0
    for i = 1, l.n do
      rt:charge(1)
      if values.equal(rt, l[i], wanted) then count = count + 1 end
    end
    return count
  end,
}
list.index = {
  "value", "start", "stop", least = 1,
  call = function(rt, l, wanted, start, stop)
    local first, last = whole_of(rt, "index", start, 0), whole_of(rt, "index", stop, l.n)
    first = first < 0 and math.max(first + l.n, 0) or first
    last = last < 0 and last + l.n or math.min(last, l.n)
    for i = first + 1, last do
      rt:charge(1)
      if values.equal(rt, l[i], wanted) then return i - 1 end
    end
    rt:fail("index: the value is not in the list")
  end,
}
tuple.count, tuple.index = list.count, list.index
list.copy = { call = function(_, l) return l end }

--- Names that would change a list or a dict.
methods.forbidden = {}
for name in ("append extend insert pop popitem remove clear sort reverse update setdefault fromkeys"):gmatch "%a+" do
  methods.forbidden[name] = true
end

return methods
