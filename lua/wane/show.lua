--- Values as the prompt prints them: short, readable, and safe for a terminal.
local core = require "wane.core"

local show = {}

local DEPTH, ITEMS, TEXT = 3, 24, 60

local function escaped(text)
  return (text:gsub("[%c\127]", function(c)
    if c == "\n" or c == "\t" then return c end
    return ("\\x%02x"):format(c:byte())
  end))
end

local function quoted(text)
  if #text > TEXT then
    local cut = utf8.offset(text, 0, TEXT) or TEXT -- not in the middle of a character
    return ("%s... %d bytes"):format(quoted(text:sub(1, cut - 1)), #text)
  end
  return '"' .. text:gsub('[%c"\\\127]', function(c)
    local short = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ['"'] = '\\"', ["\\"] = "\\\\" }
    return short[c] or ("\\x%02x"):format(c:byte())
  end) .. '"'
end

-- A value with a __tostring of its own speaks for itself; an error in it is a text as well.
local function own_words(value)
  local meta = getmetatable(value)
  if type(value) ~= "userdata" and not (type(meta) == "table" and rawget(meta, "__tostring")) then return nil end
  local ok, text = pcall(tostring, value)
  return ok and text or "a value that cannot be shown: " .. tostring(text)
end

-- keys of t after 1..n: as decoded from a file, else names first, sorted
local function keys_of(t, n)
  local meta = getmetatable(t)
  local keys, known = {}, {}
  for _, key in ipairs(type(meta) == "table" and rawget(meta, "__order") or {}) do
    if rawget(t, key) ~= nil and not known[key] then
      keys[#keys + 1], known[key] = key, true
    end
  end
  local rest = {}
  for key in next, t do
    if not known[key] and not (math.type(key) == "integer" and key >= 1 and key <= n) then rest[#rest + 1] = key end
  end
  table.sort(rest, function(a, b)
    if type(a) ~= type(b) then return type(a) == "string" or (type(b) ~= "string" and type(a) < type(b)) end
    return (type(a) == "string" or type(a) == "number") and a < b
  end)
  return table.move(rest, 1, #rest, #keys + 1, keys)
end

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch "%a+" do KEYWORDS[word] = true end

local write

local function write_table(t, depth, open, room)
  if open[t] then return "<itself>" end
  if next(t) == nil then return "{}" end
  if depth == 0 then return "{...}" end
  open[t] = true
  local parts, left, n = {}, 0, rawlen(t)
  local function add(label, value)
    if #parts == ITEMS then
      left = left + 1
    else
      parts[#parts + 1] = label .. write(value, depth - 1, open, room - 4)
    end
  end
  for i = 1, n do add("", rawget(t, i)) end
  for _, key in ipairs(keys_of(t, n)) do
    local name = type(key) == "string" and key:find("^[%a_][%w_]*$") and not KEYWORDS[key] and key
    add((name or "[" .. write(key, 0, open, room) .. "]") .. " = ", rawget(t, key))
  end
  open[t] = nil
  if left > 0 then parts[#parts + 1] = ("... %d more"):format(left) end
  local line = "{ " .. table.concat(parts, ", ") .. " }"
  if #line <= room and not line:find("\n", 1, true) then return line end
  return "{\n  " .. table.concat(parts, ",\n"):gsub("\n", "\n  ") .. "\n}"
end

function write(value, depth, open, room)
  if type(value) == "string" then return quoted(value) end
  if value == core.json.null then return "null" end
  local words = own_words(value)
  if words then return escaped(words) end
  if type(value) == "table" then return write_table(value, depth, open, room) end
  return tostring(value)
end

--- A value as text; a string as it is but for control characters, a table cut where it is deep or long.
-- @param width columns to stay within where that is possible; 80 unless given
function show.value(value, width)
  if type(value) == "string" then return escaped(value) end
  return write(value, DEPTH, {}, (width or 80) - 1)
end

--- Several values: on one line where they fit.
function show.values(width, ...)
  local texts, length, lines = {}, 0, false
  for i = 1, select("#", ...) do
    texts[i] = show.value((select(i, ...)), width)
    length = length + #texts[i] + 3
    lines = lines or texts[i]:find("\n", 1, true) ~= nil
  end
  return table.concat(texts, (lines or length > (width or 80) + 3) and "\n" or "   ")
end

return show
