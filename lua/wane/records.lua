--- Sets of records from files: JSONL, JSON, Parquet and plain text, each record checked where it stands.
-- What a file is, its name says (.jsonl, .json, .parquet, .txt), and its first bytes where that says nothing:
--   JSONL     an object on each line; empty lines are none
--   JSON      a list of objects, or an object with one such list in it
--   Parquet   a row is the object with its columns: structs are objects, nulls null, a float that is no number null
--   text      { text = line } of each line that is not empty
-- A file of text whose lines are objects is JSONL whatever its name.
local core = require "wane.core"
local trim = require "wane.template.unicode".trim

local records = {}

local function raise(path, message)
  error(setmetatable({ code = "format", path = path, op = "records", message = message }, core.error), 0)
end

-- what the parser said, without the place that is told anyway
local function reason(err)
  if type(err) ~= "table" then return tostring(err) end
  return (err.message:gsub("^text: ", "", 1):gsub(" at line %d+, column %d+:", ":", 1))
end

local function is_object(value)
  return type(value) == "table" and (getmetatable(value) or {}).__jsontype ~= "array"
end

local function is_list(value)
  return type(value) == "table" and (getmetatable(value) or {}).__jsontype == "array"
end

-- lines with their numbers, without their ends
local function each_line(text)
  local number = 0
  local next_line = (text .. "\n"):gmatch("(.-)\r?\n")
  return function()
    local line = next_line()
    number = number + 1
    if line then return number, line end
  end
end

-- Each format hands its records to take(record, number, where), where being what an error says before what is wrong.
local read = {}

function read.jsonl(path, text, take)
  for number, line in each_line(text) do
    if line:find("%S") then
      local ok, record = pcall(core.json.decode, line)
      if not ok then
        local column = type(record) == "table" and math.tointeger(record.offset) or 1
        raise(path, ("%s:%d:%d: %s"):format(path, number, math.max(column, 1), reason(record)))
      end
      take(record, number, ("%s:%d:1"):format(path, number))
    end
  end
end

function read.text(path, text, take)
  for number, line in each_line(text) do
    line = trim(line)
    if line ~= "" then take(core.json.object { text = line }, number, ("%s:%d:1"):format(path, number)) end
  end
end

-- the list of a document: itself, or the one list of objects that an object holds
local function list_of(path, document)
  if is_list(document) then return document end
  local found, count = nil, 0
  for _, value in pairs(is_object(document) and document or {}) do
    if is_list(value) and (value[1] == nil or is_object(value[1])) then found, count = value, count + 1 end
  end
  if count ~= 1 then
    raise(path, ("%s: a JSON file of records is a list of objects, or an object with one such list; this has %s")
      :format(path, count == 0 and "none" or count .. " lists"))
  end
  return found
end

-- Many files called .json, and some called .txt, hold an object on each line.
local function is_lines(text)
  local line, rest = text:match("^([^\n]+)\n(.*)", text:find("%S") or 1)
  if not line or line:sub(1, 1) ~= "{" or not rest:find("%S") then return false end
  return (pcall(core.json.decode, line))
end

function read.json(path, text, take)
  for number, record in ipairs(list_of(path, core.json.decode(text, path))) do
    take(record, number, ("%s: record %d"):format(path, number))
  end
end

function read.parquet(path, _, take, fields)
  local reader <close> = core.data.parquet(path, fields)
  local columns = " (its columns are " .. table.concat(reader:columns(), ", ") .. ")"
  local number = 0
  for row in function() return (reader:row()) end do
    number = number + 1
    take(row, number, ("%s: row %d"):format(path, number), columns)
  end
end

local ENDINGS = { jsonl = "jsonl", ndjson = "jsonl", json = "json", parquet = "parquet", txt = "text", text = "text" }

--- What a file is, and its text without a byte order mark; Parquet has none.
-- @return string, string or nil  "jsonl", "json", "parquet" or "text"
function records.open(path)
  local kind = ENDINGS[(path:match("%.(%w+)$") or ""):lower()]
  if kind == "parquet" then return kind end
  local text = core.files.read(path)
  if text:sub(1, 4) == "PAR1" then return "parquet" end
  if text:sub(1, 3) == "\u{feff}" then text = text:sub(4) end
  local first = text:match("^%s*(.)")
  if kind ~= "jsonl" and is_lines(text) then kind = "jsonl" end
  return kind or first == "{" and "jsonl" or first == "[" and "json" or "text", text
end

-- How many rows the files have; nil where one of them is not Parquet.
local function rows_of(files)
  local total = 0
  for _, path in ipairs(files) do
    if records.open(path) ~= "parquet" then return nil end
    local reader <close> = core.data.parquet(path, {})
    total = total + reader:rows()
  end
  return total
end

--- The places of count of n, evenly spread, in order; all where there are no more.
function records.spread(n, count)
  local places = {}
  for i = 1, math.min(n, count) do places[i] = n <= count and i or (2 * i - 1) * n // (2 * count) + 1 end
  return places
end

--- Of the rows of Parquet files some, evenly spread; no others are kept or checked. Of other files every record.
-- @return table[], integer  the records, and how many there are
function records.sample(files, count, check, fields)
  local total, number, list = rows_of(files), 0, {}
  if not total then
    for _, path in ipairs(files) do
      local more = records.read(path, check, fields)
      table.move(more, 1, #more, #list + 1, list)
    end
    return list, #list
  end
  local places = records.spread(total, count)
  for _, path in ipairs(files) do
    read.parquet(path, nil, function(record, _, where, hint)
      number = number + 1
      if number ~= places[#list + 1] then return end
      local problem = check and check(record)
      if problem then raise(path, ("%s: %s%s"):format(where, problem, hint or "")) end
      list[#list + 1] = record
    end, fields)
  end
  if total == 0 then raise(files[1], ("%s: no records"):format(files[1])) end
  return list, total
end

--- Every record in order, each with its number beside it: of its line, in JSON and Parquet of the record itself.
-- A byte order mark, CRLF and a missing last newline are fine.
-- @param path string
-- @param check function or nil  record -> problem or nil
-- @param fields list of names or nil  of a Parquet file, the columns that are needed; all unless given
-- @return table[], integer[]  records and their numbers
-- @error format with file:line:column (in bytes, from 1), or the number of the record or row
function records.read(path, check, fields)
  local kind, text = records.open(path)
  local list, numbers = {}, {}
  read[kind](path, text, function(record, number, where, hint)
    local problem = not is_object(record) and "a record must be a JSON object" or check and check(record)
    if problem then raise(path, ("%s: %s%s"):format(where, problem, hint or "")) end
    list[#list + 1], numbers[#numbers + 1] = record, number
  end, fields)
  if #list == 0 then raise(path, ("%s:%s no records"):format(path, text and kind ~= "json" and "1:1:" or "")) end
  return list, numbers
end

return records
