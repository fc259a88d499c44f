--- unicode.lua: strings by code points, as Python counts and maps them.
--
-- Text is UTF-8; a byte that is part of no code point counts as one character and stays as it is. White space
-- is Python's str.isspace (Unicode 14); case mapping follows the Unicode Character Database (casemap.lua),
-- with the final sigma. Departure: a letter counts as cased where it has a case mapping, which leaves out a
-- few hundred small capitals and modifier letters that only matter to title().
local casemap = require "wane.template.casemap"

local unicode = {}

local WIDE_SPACE = {}
for _, code in ipairs { 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000 } do
  WIDE_SPACE[utf8.char(code)] = true
end
for code = 0x2000, 0x200A do
  WIDE_SPACE[utf8.char(code)] = true
end
local ASCII_SPACE = {}
for byte in ("\t\n\v\f\r\x1C\x1D\x1E\x1F "):gmatch "." do
  ASCII_SPACE[byte:byte()] = true
end

-- As many code points as bytes; quicker than a search for a byte over 0x7F.
local function is_ascii(s) return utf8.len(s) == #s end
unicode.is_ascii = is_ascii

--- The number of characters.
function unicode.len(s)
  if is_ascii(s) then return #s end
  local count, at = 0, 1
  while true do
    local n, bad = utf8.len(s, at)
    if n then return count + n end
    if bad > at then count = count + utf8.len(s, at, bad - 1) end
    count, at = count + 1, bad + 1
    if at > #s then return count end
  end
end

--- The characters as a list of strings.
function unicode.chars(s)
  local out, n = {}, 0
  if is_ascii(s) then
    for i = 1, #s do
      out[i] = s:sub(i, i)
    end
    return out, #s
  end
  local at = 1
  while at <= #s do
    local good = utf8.len(s, at, at)
    local stop = good and utf8.offset(s, 2, at) or at + 1
    n = n + 1
    out[n] = s:sub(at, stop - 1)
    at = stop
  end
  return out, n
end

--- Characters first .. last-1 (0-based, both within the string).
function unicode.slice(s, first, last)
  if first >= last then return "" end
  if is_ascii(s) then return s:sub(first + 1, last) end
  if utf8.len(s) then
    local from = utf8.offset(s, first + 1)
    return s:sub(from, utf8.offset(s, last - first + 1, from) - 1)
  end
  local chars = unicode.chars(s)
  return table.concat(chars, "", first + 1, last)
end

--- The number of characters before a byte.
function unicode.count_before(s, byte) return unicode.len(s:sub(1, byte - 1)) end

-- The character that ends at byte `stop`: its first byte.
local function character_before(s, stop)
  local start = stop
  while start > 1 and stop - start < 3 and s:byte(start) & 0xC0 == 0x80 do
    start = start - 1
  end
  return start
end

local function is_member(set, character)
  if set then return set[character] end
  return #character == 1 and ASCII_SPACE[character:byte()] or WIDE_SPACE[character]
end

--- The first byte at or after `at` that starts no white space.
function unicode.skip_space(s, at, set)
  local size = #s
  while at <= size do
    local byte = s:byte(at)
    local stop = at
    if byte >= 0x80 then
      stop = utf8.len(s, at, at) and utf8.offset(s, 2, at) - 1 or at
    end
    if not is_member(set, s:sub(at, stop)) then break end
    at = stop + 1
  end
  return at
end

--- Without white space, or without the characters of `set`, at its ends.
-- @param side "left", "right" or "both"
-- @param set { [character] = true }, nil for white space
function unicode.strip(s, side, set)
  local first, last = 1, #s
  if side ~= "right" then first = unicode.skip_space(s, 1, set) end
  if side ~= "left" then
    while last >= first do
      local start = last
      if s:byte(last) >= 0x80 then
        start = character_before(s, last)
        if utf8.len(s, start, start) ~= 1 or utf8.offset(s, 2, start) ~= last + 1 then start = last end
      end
      if start < first or not is_member(set, s:sub(start, last)) then break end
      last = start - 1
    end
  end
  if first == 1 and last == #s then return s end
  return s:sub(first, last)
end

--- Without ASCII's white space at both ends, in time that goes with the length: a pattern that begins with the run
-- itself would try every space of a long run inside.
function unicode.trim(s)
  local first = s:find("%S")
  return first and s:match("^.*%S", first) or ""
end

function unicode.is_space(character) return is_member(nil, character) or false end

local maps -- filled at the first text that is not ASCII

local function load_maps()
  maps = { upper = {}, lower = {}, title = {} }
  for _, name in ipairs { "upper", "lower" } do
    for first, last, step, delta in casemap[name]:gmatch "(%x+)%s(%x+)%s(%d+)%s([+-]%d+)" do
      for code = tonumber(first, 16), tonumber(last, 16), tonumber(step) do
        maps[name][utf8.char(code)] = utf8.char(code + tonumber(delta))
      end
    end
  end
  for field, name in pairs { upper_long = "upper", lower_long = "lower", title = "title" } do
    for code, to in casemap[field]:gmatch "(%x+)=([%x+]+)" do
      local out = {}
      for point in to:gmatch "%x+" do
        out[#out + 1] = utf8.char(tonumber(point, 16))
      end
      maps[name][utf8.char(tonumber(code, 16))] = table.concat(out)
    end
  end
  return maps
end

-- One character in "upper", "lower" or "title" case.
local function convert(character, case)
  if #character == 1 then return case == "lower" and character:lower() or character:upper() end
  local m = maps or load_maps()
  if case == "title" then return m.title[character] or m.upper[character] or character end
  return m[case][character] or character
end

--- Whether the character has upper and lower case.
function unicode.is_cased(character)
  if #character == 1 then return character:find "%a" ~= nil end
  return convert(character, "upper") ~= character or convert(character, "lower") ~= character
end

local SIGMA, FINAL_SIGMA = "\u{3A3}", "\u{3C2}"

local function lower_at(chars, n, i)
  if chars[i] ~= SIGMA then return convert(chars[i], "lower") end
  local before = i > 1 and unicode.is_cased(chars[i - 1])
  local after = i < n and unicode.is_cased(chars[i + 1])
  return before and not after and FINAL_SIGMA or convert(SIGMA, "lower")
end

function unicode.upper(s)
  if is_ascii(s) then return s:upper() end
  return (s:upper():gsub("[\xC2-\xF4][\x80-\xBF]+", (maps or load_maps()).upper))
end

function unicode.lower(s)
  if is_ascii(s) then return s:lower() end
  if not s:find(SIGMA, 1, true) then
    return (s:lower():gsub("[\xC2-\xF4][\x80-\xBF]+", (maps or load_maps()).lower))
  end
  local chars, n = unicode.chars(s)
  local out = {}
  for i = 1, n do
    out[i] = lower_at(chars, n, i)
  end
  return table.concat(out)
end

--- The first character in title case, the others in lower case.
function unicode.capitalize(s)
  local chars, n = unicode.chars(s)
  local out = {}
  for i = 1, n do
    out[i] = i == 1 and convert(chars[1], "title") or lower_at(chars, n, i)
  end
  return table.concat(out)
end

--- Python's str.title: each run of cased letters starts in title case.
function unicode.title(s)
  local chars, n = unicode.chars(s)
  local out, inside = {}, false
  for i = 1, n do
    out[i] = inside and lower_at(chars, n, i) or convert(chars[i], "title")
    inside = unicode.is_cased(chars[i])
  end
  return table.concat(out)
end

--- Upper case to lower and the other way round.
function unicode.swapcase(s)
  local chars, n = unicode.chars(s)
  local out = {}
  for i = 1, n do
    local lower = lower_at(chars, n, i)
    out[i] = lower ~= chars[i] and lower or convert(chars[i], "upper")
  end
  return table.concat(out)
end

-- What repr() escapes beside the controls: separators, format characters, private use (Unicode 14).
local UNPRINTABLE = {
  0x7F, 0xA0, 0xAD, 0xAD, 0x600, 0x605, 0x61C, 0x61C, 0x6DD, 0x6DD, 0x70F, 0x70F, 0x890, 0x891, 0x8E2, 0x8E2,
  0x1680, 0x1680, 0x180E, 0x180E, 0x2000, 0x200F, 0x2028, 0x202F, 0x205F, 0x206F, 0x3000, 0x3000,
  0xE000, 0xF8FF, 0xFEFF, 0xFEFF, 0xFFF0, 0xFFFB, 0xFFFE, 0xFFFF, 0x110BD, 0x110BD, 0x110CD, 0x110CD,
  0x13430, 0x13438, 0x1BCA0, 0x1BCA3, 0x1D173, 0x1D17A, 0xE0000, 0xE00FF, 0xE01F0, 0x10FFFF,
}

--- Whether repr() shows the code point as it is.
function unicode.is_printable(code)
  if code < 0x7F then return code >= 0x20 end
  for i = 1, #UNPRINTABLE, 2 do
    if code >= UNPRINTABLE[i] and code <= UNPRINTABLE[i + 1] then return false end
  end
  return true
end

return unicode
