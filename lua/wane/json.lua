--- JSON, strict: text to values and back, without losing the order of keys, null, or what is whole.
local core = require "wane.core"

local json = {}
for name, value in pairs(core.json) do json[name] = value end

--- Writes a value to a file, whole or not at all, with a line end after it.
-- @param options as for encode; { indent = 2 } unless given
function json.save(path, value, options)
  core.files.write(path, core.json.encode(value, options or { indent = 2 }) .. "\n")
end

--- Goes through a file with one JSON value a line: for row, number in json.lines(path). Raises io, and format with
-- the file, the line and the column.
function json.lines(path)
  local text, at, number = core.files.read(path), 1, 0
  return function()
    while at <= #text do
      local stop = text:find("\n", at, true) or #text + 1
      local line = text:sub(at, stop - 1)
      at, number = stop + 1, number + 1
      if line:find("%S") then return core.json.decode(line, ("%s:%d"):format(path, number)), number end
    end
  end
end

return json
