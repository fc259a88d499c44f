--- tojson.lua: a template's value as JSON, to the byte as Python's json.dumps writes it.
--
-- Transformers replaces Jinja's own tojson filter (which escapes HTML) by json.dumps with ensure_ascii off;
-- see apply_chat_template's documentation. Separators are ", " and ": "; with an indent "," and ": ".
local values = require "wane.template.values"

local tojson = {}

local DEPTH = 64
local SHORT = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\f"] = "\\f",
  ["\b"] = "\\b" }

local function control(c) return SHORT[c] or ("\\u%04x"):format(c:byte()) end

local function wide(character)
  local code = utf8.len(character) and utf8.codepoint(character) or 0xFFFD
  if code < 0x10000 then return ("\\u%04x"):format(code) end
  code = code - 0x10000
  return ("\\u%04x\\u%04x"):format(0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF))
end

local function quoted(s, only_ascii)
  s = s:gsub('[%z\1-\31"\\]', control)
  if only_ascii then s = s:gsub("\127", "\\u007f"):gsub("[\x80-\xFF][\x80-\xBF]*", wide) end
  return '"' .. s .. '"'
end

local function number(v)
  if math.type(v) == "integer" then return ("%d"):format(v) end
  if v ~= v then return "NaN" end
  if v == math.huge then return "Infinity" elseif v == -math.huge then return "-Infinity" end
  return values.float_text(v)
end

local put

-- The n pieces that piece(i) writes, between two brackets
local function put_all(state, depth, n, opening, closing, piece)
  local out = state.out
  if n == 0 then
    out[#out + 1] = opening .. closing
    return
  end
  if depth == DEPTH then state.rt:fail(("tojson: nested deeper than %d"):format(DEPTH)) end
  local indent = state.indent
  local line = indent and "\n" .. indent:rep(depth + 1)
  if indent then state.rt:charge(n * (#line // 4 + 1)) end
  out[#out + 1] = opening
  for i = 1, n do
    if i > 1 then out[#out + 1] = state.between end
    if line then out[#out + 1] = line end
    piece(i)
  end
  if indent then out[#out + 1] = "\n" .. indent:rep(depth) end
  out[#out + 1] = closing
end

local function key_text(state, key)
  if type(key) == "string" then return quoted(key, state.only_ascii) end
  if key == values.none then return '"null"' end
  if type(key) == "boolean" then return key and '"true"' or '"false"' end
  return '"' .. number(key) .. '"'
end

local function put_dict(state, v, depth)
  local keys = v.keys
  if state.sort_keys then
    keys = table.move(keys, 1, v.n, 1, {})
    state.rt:sort(keys, v.n, function(a, b) return values.less(state.rt, a, b) end)
  end
  put_all(state, depth, v.n, "{", "}", function(i)
    local key = key_text(state, keys[i])
    state.rt:charge(#key // 4)
    state.out[#state.out + 1] = key .. state.colon
    put(state, values.get(v, keys[i]), depth + 1)
  end)
end

function put(state, v, depth)
  local kind, text = values.kind(v), nil
  state.rt:charge(16)
  if kind == "str" then
    text = quoted(v, state.only_ascii)
  elseif kind == "int" or kind == "float" then
    text = number(v)
  elseif kind == "bool" then
    text = v and "true" or "false"
  elseif kind == "none" then
    text = "null"
  elseif kind == "list" or kind == "tuple" then
    put_all(state, depth, v.n, "[", "]", function(i) put(state, v[i], depth + 1) end)
  elseif kind == "dict" then
    put_dict(state, v, depth)
  else
    state.rt:fail(("tojson: a %s cannot be written as JSON"):format(values.type_name(v)))
  end
  if text then
    state.rt:charge(#text // 4)
    state.out[#state.out + 1] = text
  end
end

--- @param options { only_ascii, indent (text or nil), between, colon, sort_keys }
function tojson.write(rt, v, options)
  local state = {
    rt = rt, out = {}, only_ascii = options.only_ascii, indent = options.indent, sort_keys = options.sort_keys,
    between = options.between or (options.indent and "," or ", "), colon = options.colon or ": ",
  }
  put(state, v, 0)
  return rt:join(state.out, "", #state.out)
end

return tojson
