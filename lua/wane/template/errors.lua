--- errors.lua: how the template engine says what went wrong.
--
-- Every failure that a template, its source or its data can cause is an error object as wane raises them
-- everywhere: `code` ("format": the template or the messages are wrong; "unsupported": a name or a limit of
-- this engine; "io"), `message` (one line), `op`, `path`, and here `line` and `column` (1-based, the column
-- in code points). Wrong arguments to the Lua functions are plain strings. The metatable is wane's own where
-- the host is there, so that wane.try knows these errors too; without the host (a bare lua5.4) it is a twin.
local errors = {}

local found, core = pcall(require, "wane.core")
if found and type(core) == "table" and core.error then
  errors.metatable = core.error
else
  errors.metatable = { __name = "wane.error", __tostring = function(e) return e.message end }
end

--- Text from outside, fit for one line of a message: control bytes as \xNN, cut after `most` bytes.
function errors.escape(text, most)
  most = most or 200
  local cut = #text > most
  if cut then
    text = text:sub(1, most):gsub("[\xC0-\xFF][\x80-\xBF]*$", "")
  end
  text = text:gsub("[%c\x7F]", function(c)
    if c == "\n" then return "\\n" end
    return ("\\x%02X"):format(c:byte())
  end)
  return cut and text .. "..." or text
end

--- Raises an error object; does not return.
-- @param code one of the codes above
-- @param message one line
-- @param fields further fields, may be nil
function errors.raise(code, message, fields)
  local e = { code = code, message = message, op = "template" }
  for name, value in pairs(fields or {}) do
    e[name] = value
  end
  error(setmetatable(e, errors.metatable), 0)
end

--- Line and column of a byte offset.
-- @return line, column
function errors.position(source, offset)
  local line, start = 1, 1
  while true do
    local newline = source:find("\n", start, true)
    if not newline or newline >= offset then break end
    line, start = line + 1, newline + 1
  end
  local before = source:sub(start, offset - 1)
  return line, (utf8.len(before) or #before) + 1
end

--- Raises an error at a byte offset of a template: "NAME:LINE:COLUMN: why".
-- @param template { name, source }
function errors.at(template, offset, code, why, fields)
  local line, column = errors.position(template.source, offset)
  local all = { path = template.name, line = line, column = column }
  for name, value in pairs(fields or {}) do
    all[name] = value
  end
  errors.raise(code, ("%s:%d:%d: %s"):format(errors.escape(template.name), line, column, why), all)
end

return errors
