-- json.lua - a JSON text: what is read, written and read again is the same, also with lines and indents.
local core = require "wane.core"

return function(input)
  local value = core.json.decode(input, "input")
  local text = core.json.encode(value)
  assert(core.json.encode(core.json.decode(text)) == text, "written otherwise the second time")
  local indented = core.json.encode(value, { indent = 2 })
  assert(core.json.encode(core.json.decode(indented)) == text, "indents change it")
end
