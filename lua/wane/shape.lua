--- Whether a value read from a file is of the shape that what uses it takes for granted.
--
--   local wrong = shape.wrong(page, { model = "text", time = "text?", samples = { list = { line = "count" } } })
--   if wrong then refuse(path, wrong) end                    -- "samples[3].line must be a whole number from 0"
--
-- A shape is the name of a kind, with "?" where nothing at all is fine too; a table of names and shapes, of an object
-- with these fields and any others; { list = shape }, { map = shape }, and either of these three with maybe = true.
local shape = {}

local function is_number(v) return type(v) == "number" and v == v and v > -math.huge and v < math.huge end
local function is_share(v) return is_number(v) and v >= 0 and v <= 1 end

local KINDS <const> = {
  text = { "must be text", function(v) return type(v) == "string" end },
  truth = { "must be true or false", function(v) return type(v) == "boolean" end },
  number = { "must be a number", is_number },
  whole = { "must be a whole number", function(v) return math.type(v) == "integer" end },
  count = { "must be a whole number from 0", function(v) return math.type(v) == "integer" and v >= 0 end },
  share = { "must be a number from 0 to 1", is_share },
  interval = { "must be two numbers from 0 to 1",
               function(v) return type(v) == "table" and is_share(v[1]) and is_share(v[2]) end },
}

-- "array" or "object" where JSON said which; an empty table may be either: Lua has one, and writes it as an object
local function kind_of(value) return next(value) ~= nil and (getmetatable(value) or {}).__jsontype or nil end

local wrong

local function wrong_fields(value, wanted, where)
  local names = {}
  for name in pairs(wanted) do
    if name ~= "maybe" then names[#names + 1] = name end
  end
  table.sort(names) -- the same of several problems each time
  for _, name in ipairs(names) do
    local problem = wrong(value[name], wanted[name], where and where .. "." .. name or name)
    if problem then return problem end
  end
end

function wrong(value, wanted, where)
  local plain = type(wanted) == "string"
  if value == nil and (plain and wanted:find "%?$" or not plain and wanted.maybe) then return nil end
  if value == nil then return (where or "it") .. " is missing" end
  if plain then
    local kind = KINDS[wanted:match "^%a+"]
    return not kind[2](value) and ("%s %s"):format(where or "it", kind[1]) or nil
  end
  local each = wanted.list or wanted.map
  if type(value) ~= "table" or kind_of(value) == (wanted.list and "object" or "array") then
    return ("%s must be %s"):format(where or "it", wanted.list and "a list" or "an object")
  end
  if not each then return wrong_fields(value, wanted, where) end
  for key, item in (wanted.list and ipairs or pairs)(value) do
    local problem = wrong(item, each, ("%s[%s]"):format(where or "it", key))
    if problem then return problem end
  end
end

--- What is wrong with a value first, in one line that names the field; nil where nothing is.
-- @param value of JSON, null being nil (shape.without_nulls)
-- @param wanted a shape
-- @return string or nil
function shape.wrong(value, wanted) return wrong(value, wanted, nil) end

--- The same value without the fields that are null, which in Lua are not there. A list keeps its nulls.
-- @param null what stands for null
function shape.without_nulls(value, null)
  for key, item in pairs(value) do
    if item == null and kind_of(value) ~= "array" then value[key] = nil
    elseif type(item) == "table" then shape.without_nulls(item, null) end
  end
  return value
end

return shape
