-- records.lua - a JSONL file: records, each an object from its own line, or the place of what is wrong.
local folder = ... -- this process's own
local core = require "wane.core"
local records = require "wane.records"

return function(input)
  local path = folder .. "/records.jsonl"
  local file = assert(io.open(path, "wb"))
  assert(file:write(input))
  file:close()
  local ok, list, lines = pcall(records.read, path)
  local _, ends = input:gsub("\n", "")
  if not ok then
    local line = list.message and list.message:match("jsonl:(%d+):%d+: .")
    assert(list.code == "format" and line and tonumber(line) <= ends + 1, tostring(list))
    return
  end
  assert(#list == #lines and #list > 0, "counts")
  for i, record in ipairs(list) do
    assert(type(record) == "table" and lines[i] > (lines[i - 1] or 0) and lines[i] <= ends + 1, "lines")
    core.json.encode(record)
  end
end
