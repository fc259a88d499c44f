--- lexer.lua: template text to tokens, with Jinja's rules for white space.
--
-- Source: the Jinja 3.1 documentation, "Template Designer Documentation", sections Whitespace Control,
-- Literals and Escaping; the settings are those of Transformers' apply_chat_template: trim_blocks (the first
-- newline after a tag or comment goes), lstrip_blocks (blanks before a tag that starts its line go), no
-- trailing newline, no line statements. `-` strips to the next text, `+` keeps what a setting would strip.
--
-- A lexer is pulled: lexer:next() sets lexer.type, lexer.value and lexer.pos (a byte offset, 1-based).
-- Types: "data", "{{", "}}", "{%", "%}", "name", "string", "integer", "float", an operator itself, "eof".
-- Departures: names are ASCII; \N{...} is refused; surrogate pairs written as \u escapes are joined, lone
-- ones become U+FFFD.
local errors = require "wane.template.errors"
local unicode = require "wane.template.unicode"

local lexer = {}
lexer.__index = lexer

local CLOSES = { ["("] = ")", ["["] = "]", ["{"] = "}" }
local OPERATORS = {} -- longest first: by length, then a set
for operator in ("// ** == != >= <= + - / * % ~ [ ] ( ) { } > < = . : | ,"):gmatch "%S+" do
  OPERATORS[operator] = true
end
local ESCAPES = {
  ["\\"] = "\\", ["'"] = "'", ['"'] = '"', a = "\a", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
  v = "\v", ["\n"] = "",
}
local DIGITS = { x = 2, u = 4, U = 8 }

--- @param template { name, source }; source already has "\n" newlines only (see lexer.normalize)
function lexer.new(template)
  return setmetatable({
    template = template,
    source = template.source,
    at = 1,             -- next byte
    mode = "root",
    line_starts = true, -- the last token ended with a newline
    open = {},          -- closing brackets awaited inside a tag
    pending = nil,      -- the mode that begins after a piece of data
  }, lexer)
end

--- "\r\n" and "\r" become "\n"; one newline at the end goes.
function lexer.normalize(source)
  if source:find("\r", 1, true) then source = source:gsub("\r\n?", "\n") end
  return (source:gsub("\n$", "", 1))
end

function lexer:fail(why, pos) errors.at(self.template, pos or self.at, "format", why) end

local function give(self, kind, value, pos)
  self.type, self.value, self.pos = kind, value, pos
  return kind
end

-- Data before a tag whose sign is "-", "+" or "": what stays of it.
local function before_tag(self, text, sign, is_variable)
  if sign == "-" then return unicode.strip(text, "right") end
  if sign == "+" or is_variable then return text end
  local line = 1
  local last = text:find("\n[^\n]*$")
  if last then line = last + 1 elseif not self.line_starts then return text end
  if unicode.strip(text:sub(line), "both") == "" then return text:sub(1, line - 1) end
  return text
end

-- Moves over a tag's end at `stop` (its last byte) whose sign is "-", "+" or "".
local function after_tag(self, stop, sign, trims)
  local source, at = self.source, stop + 1
  if sign == "-" then
    at = unicode.skip_space(source, at)
  elseif sign == "" and trims and source:byte(at) == 10 then
    at = at + 1
  end
  self.line_starts = source:byte(at - 1) == 10
  self.at = at
end

local function comment(self, start)
  local stop = self.source:find("#}", start, true)
  if not stop then self:fail("this comment has no end: #} is missing", start - 2) end
  local sign = stop > start and self.source:sub(stop - 1, stop - 1):match "[-+]" or ""
  after_tag(self, stop + 1, sign, true)
end

-- Text between raw and endraw, as one piece of data.
local function raw(self, begin, stop, sign)
  after_tag(self, stop, sign, false)
  local start, from = self.at, self.at
  while true do
    local first = self.source:find("{%", from, true)
    if not first then self:fail("this raw block has no end: {% endraw %} is missing", begin) end
    local left, right, last = self.source:match("^{%%([-+]?)%s*endraw%s*([-+]?)%%}()", first)
    if left then
      local text = before_tag(self, self.source:sub(start, first - 1), left, false)
      after_tag(self, last - 1, right, true)
      return text
    end
    from = first + 2
  end
end

local function root(self)
  local source, at = self.source, self.at
  if self.pending then
    self.mode, self.pending = self.pending, nil
    self.open = {}
    return give(self, self.mode, nil, self.tag_at)
  end
  if at > #source then return give(self, "eof", nil, #source) end
  local first = source:find("{[%%{#]", at)
  if not first then
    self.at = #source + 1
    return give(self, "data", source:sub(at), at)
  end
  local kind, sign = source:match("^({.)([-+]?)", first)
  local text = before_tag(self, source:sub(at, first - 1), sign, kind == "{{")
  if kind == "{#" then
    comment(self, first + 2 + #sign)
  else
    local ending, stop = nil, nil
    if kind == "{%" then ending, stop = source:match("^{%%[-+]?%s*raw%s*(-?)%%}()", first) end
    if ending then
      text = text .. raw(self, first, stop - 1, ending)
    else
      self.at, self.pending, self.tag_at = first + 2 + #sign, kind, first
    end
  end
  if text == "" then return root(self) end
  return give(self, "data", text, at)
end

local function string_value(self, body, pos)
  if not body:find("\\", 1, true) then return body end
  local out, at = {}, 1
  local high -- a high surrogate waiting for its other half
  local function put(text)
    if high then out[#out + 1] = "\u{FFFD}" end
    high = nil
    out[#out + 1] = text
  end
  local function code_point(code)
    if code >= 0xD800 and code < 0xDC00 then
      put ""
      high = code
    elseif code >= 0xDC00 and code < 0xE000 then
      local first = high
      high = nil
      put(first and utf8.char(0x10000 + ((first - 0xD800) << 10) + (code - 0xDC00)) or "\u{FFFD}")
    else
      put(utf8.char(code))
    end
  end
  while at <= #body do
    local slash = body:find("\\", at, true)
    if not slash then break end
    if slash > at then put(body:sub(at, slash - 1)) end
    local letter = body:sub(slash + 1, slash + 1)
    at = slash + 2
    if ESCAPES[letter] then
      put(ESCAPES[letter])
    elseif letter:find "[0-7]" then
      local digits = body:match("^[0-7][0-7]?[0-7]?", slash + 1)
      code_point(tonumber(digits, 8))
      at = slash + 1 + #digits
    elseif DIGITS[letter] then
      local digits = body:sub(at, at + DIGITS[letter] - 1)
      local code = #digits == DIGITS[letter] and digits:find "^%x+$" and tonumber(digits, 16)
      if not code or code > 0x10FFFF then self:fail("this \\" .. letter .. " escape is broken", pos + slash) end
      code_point(code)
      at = at + #digits
    elseif letter == "N" then
      errors.at(self.template, pos + slash, "unsupported", "\\N{...} escapes are not supported")
    else
      put("\\" .. letter)
    end
  end
  put(body:sub(at))
  return table.concat(out)
end

local function string_token(self, quote, pos)
  local at = pos + 1
  while true do
    local stop = self.source:find("[\\" .. quote .. "]", at)
    if not stop then self:fail("this string has no end", pos) end
    if self.source:sub(stop, stop) == quote then
      self.at = stop + 1
      return give(self, "string", string_value(self, self.source:sub(pos + 1, stop - 1), pos), pos)
    end
    at = stop + 2
  end
end

local function digits(text, at, class)
  local stop = text:match("^" .. class .. "+()", at)
  while stop and text:find("^_" .. class, stop) do
    stop = text:match("^_" .. class .. "+()", stop)
  end
  return stop
end

local BASES = { b = { "[01]", 2 }, o = { "[0-7]", 8 }, x = { "%x", 16 } }

local function number_token(self, pos)
  local source = self.source
  local based = BASES[source:match("^0([bBoOxX])", pos) and source:sub(pos + 1, pos + 1):lower()]
  local stop = based and digits(source, pos + 2, based[1])
  if stop then
    local text = source:sub(pos + 2, stop - 1):gsub("_", "")
    self.at = stop
    if #text * (based[2] == 16 and 4 or based[2] == 8 and 3 or 1) > 63 then
      errors.at(self.template, pos, "unsupported", "whole numbers over 64 bits are not supported")
    end
    return give(self, "integer", tonumber(text, based[2]), pos)
  end
  stop = digits(source, pos, "%d")
  local whole = stop
  local is_float = false
  if source:sub(pos - 1, pos - 1) ~= "." then
    local fraction = source:find("^%.%d", stop) and digits(source, stop + 1, "%d")
    if fraction then is_float, stop = true, fraction end
    local exponent = source:match("^[eE][+-]?()%d", stop)
    if exponent then is_float, stop = true, digits(source, exponent, "%d") end
  end
  local text = source:sub(pos, stop - 1):gsub("_", "")
  self.at = stop
  if is_float then return give(self, "float", tonumber(text) + 0.0, pos) end
  if #text > 1 and text:find "^0+[1-9]" then self:fail("a whole number cannot start with 0", pos) end
  local value = math.tointeger(tonumber(text))
  if not value or #text > 19 or math.type(tonumber(text)) ~= "integer" then
    errors.at(self.template, pos, "unsupported", "whole numbers over 64 bits are not supported")
  end
  self.at = whole
  return give(self, "integer", value, pos)
end

local function tag_end(self, pos)
  local closer = self.mode == "{{" and "}}" or "%}"
  local source = self.source
  local sign = source:sub(pos, pos)
  if sign ~= "-" and (sign ~= "+" or closer == "}}") then sign = "" end
  if source:sub(pos + #sign, pos + #sign + 1) ~= closer then return false end
  after_tag(self, pos + #sign + 1, sign, closer == "%}")
  self.mode = "root"
  give(self, closer, nil, pos)
  return true
end

local function operator_token(self, pos)
  local source, open = self.source, self.open
  local operator = source:sub(pos, pos + 1)
  if not OPERATORS[operator] then operator = source:sub(pos, pos) end
  if not OPERATORS[operator] then
    local character = source:match("^[\xC2-\xFD][\x80-\xBF]*", pos) or operator
    self:fail('unexpected character "' .. errors.escape(character) .. '"', pos)
  end
  if CLOSES[operator] then
    if #open == 128 then
      errors.at(self.template, pos, "unsupported", "brackets nested deeper than 128")
    end
    open[#open + 1] = CLOSES[operator]
  elseif operator == ")" or operator == "]" or operator == "}" then
    local expected = table.remove(open)
    if not expected then self:fail(("unexpected %q"):format(operator), pos) end
    if expected ~= operator then self:fail(("unexpected %q, expected %q"):format(operator, expected), pos) end
  end
  self.at = pos + #operator
  return give(self, operator, operator, pos)
end

--- Moves to the next token; returns its type.
function lexer:next()
  if self.mode == "root" then return root(self) end
  local source = self.source
  local pos = source:find("%S", self.at)
  if not pos then
    self:fail("this tag has no end: " .. (self.mode == "{{" and "}}" or "%}") .. " is missing", self.tag_at)
  end
  self.at = pos
  if #self.open == 0 and tag_end(self, pos) then return self.type end
  local first = source:sub(pos, pos)
  if first:find "[%a_]" then
    local name = source:match("^[%w_]+", pos)
    self.at = pos + #name
    return give(self, "name", name, pos)
  elseif first:find "%d" then
    return number_token(self, pos)
  elseif first == '"' or first == "'" then
    return string_token(self, first, pos)
  end
  return operator_token(self, pos)
end

return lexer
