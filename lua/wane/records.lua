--- JSONL files of records, checked line by line.
local core = require "wane.core"

local records = {}

local function fail(path, line, column, why)
  error(setmetatable({
    code = "format", path = path, op = "records",
    message = ("%s:%d:%d: %s"):format(path, line, column, why),
  }, core.error), 0)
end

-- what the parser said, without the place that is told anyway
local function reason(err)
  if type(err) ~= "table" then return tostring(err) end
  return (err.message:gsub("^text: ", "", 1):gsub(" at line %d+, column %d+:", ":", 1))
end

local function is_object(value)
  return type(value) == "table" and (getmetatable(value) or {}).__jsontype ~= "array"
end

--- Every line's object, in order, each with its line number beside it.
-- A byte order mark, CRLF and a missing last newline are fine; an empty line is not a record.
-- @param path string
-- @param check function or nil  record -> problem or nil
-- @return table[], integer[]  records and their line numbers
-- @error format with file:line:column (in bytes, from 1)
function records.read(path, check)
  local text = core.files.read(path)
  if text:sub(1, 3) == "\u{feff}" then text = text:sub(4) end
  local list, lines, number = {}, {}, 0
  for line in (text .. "\n"):gmatch("(.-)\r?\n") do
    number = number + 1
    if line:find("%S") then
      local ok, record = pcall(core.json.decode, line)
      if not ok then
        local column = type(record) == "table" and math.tointeger(record.offset) or 1
        fail(path, number, math.max(column, 1), reason(record))
      end
      if not is_object(record) then fail(path, number, 1, "a record must be a JSON object") end
      local problem = check and check(record)
      if problem then fail(path, number, 1, problem) end
      list[#list + 1], lines[#lines + 1] = record, number
    end
  end
  if #list == 0 then fail(path, 1, 1, "no records") end
  return list, lines
end

return records
