--- What Tab completes: names, fields and methods, option names inside { }, and files inside a string.
-- It reads tables raw and runs no function of a script; wane's own values may be asked for their fields.
local core = require "wane.core"
local help = require "wane.help"
local modules = require "wane.modules"

local complete = {}

local function add_keys(found, t)
  for key in next, t do
    if type(key) == "string" and key:find("^[%a_][%w_]*$") then found[key] = true end
  end
end

-- the name of a type of wane's own: "wane", "wane.tensor"; nil for all else
local function our_type(value)
  local meta = debug.getmetatable(value)
  local name = type(meta) == "table" and rawget(meta, "__name")
  return type(name) == "string" and (name == "wane" or name:find("^wane%.")) and name or nil
end

-- value.key, without running what is not wane's
local function field(value, key)
  local seen = 0
  while value ~= nil and seen < 16 do
    if type(value) == "table" and rawget(value, key) ~= nil then return rawget(value, key) end
    if our_type(value) then
      local ok, got = pcall(function() return value[key] end)
      return ok and got or nil
    end
    local meta = debug.getmetatable(value)
    value = type(meta) == "table" and rawget(meta, "__index") or nil
    if type(value) ~= "table" then return nil end
    seen = seen + 1
  end
end

-- the names that may follow value. or value:
local function members(value, methods_only)
  local found, seen = {}, 0
  local start = value
  while value ~= nil and seen < 16 do
    if type(value) == "table" and not (methods_only and value == start and type(start) ~= "table") then
      add_keys(found, value)
    end
    local meta = debug.getmetatable(value)
    if type(meta) ~= "table" then break end
    for _, lists in ipairs { "methods", "fields" } do
      local names = rawget(meta, lists)
      if type(names) == "table" and (lists == "methods" or not methods_only) then
        add_keys(found, names)
        for _, name in ipairs(names) do found[name] = true end
      end
    end
    value = rawget(meta, "__index")
    if type(value) ~= "table" then break end
    seen = seen + 1
  end
  local bound = core[(our_type(start) or ""):gsub("^wane%.", "")]
  if type(start) == "userdata" and type(bound) == "table" and bound.fields and not methods_only then
    add_keys(found, bound.fields)
  end
  if our_type(start) == "wane" then
    for _, module in ipairs(modules.list "wane") do found[module:match("[^.]+$")] = true end
    for name, part in pairs(core) do
      if type(part) == "table" and name ~= "docs" then found[name] = true end
    end
  end
  if methods_only and type(start) == "table" then
    for name in pairs(found) do
      if type(field(start, name)) ~= "function" then found[name] = nil end
    end
  end
  return found
end

-- where a string that is open at the end of the text begins, or nil
local function open_string(text)
  local at, quote = 1, nil
  while at <= #text do
    local c = text:sub(at, at)
    if quote and c == "\\" then
      at = at + 1
    elseif quote and c == quote.mark then
      quote = nil
    elseif not quote and (c == '"' or c == "'") then
      quote = { mark = c, at = at + 1 }
    elseif not quote and text:find("^%-%-", at) then
      return nil
    end
    at = at + 1
  end
  return quote and quote.at
end

local function files(partial)
  local found, dir, name = {}, partial:match("^(.*/)([^/]*)$")
  if not dir then dir, name = "", partial end
  local ok, names = pcall(core.files.list, dir == "" and "." or dir)
  for _, entry in ipairs(ok and names or {}) do
    if entry:sub(1, 1) ~= "." or name:sub(1, 1) == "." then
      local is_dir = core.files.kind(dir .. entry) == "directory"
      found[entry .. (is_dir and "/" or "")] = true
    end
  end
  return found, name
end

local function resolve(path)
  local root, rest = path:match("^([%a_][%w_]*)(.*)$")
  local value = rawget(_G, root)
  for sep, key in rest:gmatch("([.%[])([%w_]+)%]?") do
    if value == nil then return nil end
    value = field(value, sep == "[" and math.tointeger(tonumber(key)) or key)
  end
  return value
end

local KEYWORDS = { "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil",
  "not", "repeat", "return", "then", "true", "until", "while" }

-- text before the cursor -> set of names, the part of one that is there already
local function candidates(text)
  local string_at = open_string(text)
  if string_at then return files(text:sub(string_at)) end
  local path, sep, partial = text:match("([%a_][%w_.%[%]]*)([.:])([%w_]*)$")
  if path then return members(resolve(path), sep == ":"), partial end
  partial = text:match("[%a_][%w_]*$") or ""
  local callee = text:match("([%a_][%w_.]*)%s*%(?[^{}()]*{[^{}]*$")
  local spec = callee and help.spec(callee)
  local found = {}
  if spec then
    for _, entry in ipairs(spec) do found[entry.name .. " = "] = true end
    return found, partial
  end
  add_keys(found, _G)
  for _, word in ipairs(KEYWORDS) do found[word] = true end
  return found, partial
end

--- Completes the text before the cursor: gives what to insert, and the names to show where several are possible.
function complete.line(text)
  if not text:find("%S") then return "  " end
  local found, partial = candidates(text)
  local names = {}
  for name in pairs(found) do
    if name:sub(1, #partial) == partial then names[#names + 1] = name end
  end
  if not names[1] then return "" end
  table.sort(names)
  local first, last, n = names[1], names[#names], #partial
  while n < #first and first:byte(n + 1) == last:byte(n + 1) do n = n + 1 end
  local insert = first:sub(#partial + 1, n)
  if insert == "" and names[2] then return "", names end
  return insert
end

return complete
