--- Option tables: one list of entries serves checks, defaults, help, flags, completion, README tables and specs.
-- An entry is { name, kind, default, least, most, choices, of, required, doc, unit }. kind is "integer", "number",
-- "boolean", "string", "device" (its name), "bytes" (a count, or "24GiB"), "list" (of: the kind of its items),
-- "one of" (choices), "function", "table" or "any". The tables of methods written in C have the same fields.
local core = require "wane.core"

local options = {}

--- Raises an error object: code "usage" gives exit code 2, "format" 3, and so on.
-- @param fields { code, message, path, ... }
function options.fail(fields) error(setmetatable(fields, core.error), 0) end

--- Raises a plain error at the caller's caller unless value is a model, as wane.load gives them.
-- @param what the function that asks: "wane.quantize"
function options.check_model(value, what)
  local meta = getmetatable(value)
  if type(meta) == "table" and meta.__name == "wane.model" then return end
  error(("%s takes a model first, of wane.load, not a %s"):format(what, type(value)), 3)
end

-- kind -> function(value, entry) -> the value to keep, or nil, what it should have been, a hint, and what was wrong
-- where that is but a part of the value
local kinds = {}

function kinds.integer(v)
  local whole = type(v) == "number" and math.tointeger(v)
  if whole then return whole end
  return nil, "a whole number"
end

function kinds.number(v)
  if type(v) == "number" and v == v then return v end
  return nil, "a number"
end

function kinds.boolean(v)
  if type(v) == "boolean" then return v end
  return nil, "true or false"
end

function kinds.string(v)
  if type(v) == "string" then return v end
  return nil, "a string"
end

function kinds.bytes(v)
  local whole = type(v) == "number" and math.tointeger(v)
  if whole and whole >= 0 then return whole end
  local ok, bytes = pcall(core.device.bytes, v)
  if type(v) == "string" and ok then return bytes end
  return nil, "a size, as 24GiB, 512MiB or 4096"
end

function kinds.device(v)
  if v == "auto" or v == "cpu" or v == "cuda" or type(v) == "string" and v:find "^cuda:%d+$" then return v end
  return nil, "auto, cpu, cuda or cuda:1"
end

function kinds.list(v, entry)
  if type(v) ~= "table" then return nil, "a list" end
  local check, items = kinds[entry.of or "any"], {}
  for i, item in ipairs(v) do
    local kept, wanted, hint = check(item, entry)
    if kept == nil then return nil, ("a list whose item %d is %s"):format(i, wanted), hint, item end
    items[i] = kept
  end
  if #items ~= #v or (next(v) ~= nil and #v == 0) then return nil, "a list" end
  return items
end

kinds["one of"] = function(v, entry)
  for _, choice in ipairs(entry.choices) do
    if v == choice then return v end
  end
  local names = {}
  for i, choice in ipairs(entry.choices) do names[i] = tostring(choice) end
  local meant = type(v) == "string" and core.options.nearest(v, names)
  return nil, "one of " .. table.concat(names, ", "), meant and ("; did you mean %s?"):format(meant)
end

kinds["function"] = function(v)
  if type(v) == "function" then return v end
  return nil, "a function"
end

function kinds.table(v)
  if type(v) == "table" or type(v) == "userdata" then return v end
  return nil, "a table"
end

function kinds.any(v) return v end

local function show(v)
  if type(v) == "string" then return #v > 40 and ("%q..."):format(v:sub(1, 40)) or ("%q"):format(v) end
  if type(v) == "table" or type(v) == "function" then return "a " .. type(v) end
  return tostring(v)
end

-- value -> the value to keep, or nil and a sentence that says what is wrong
local function examine(entry, v)
  local check = kinds[entry.kind] or error(("option %s has no kind"):format(entry.name), 0)
  local kept, wanted, hint, wrong = check(v, entry)
  if kept == nil then
    return nil, ("%s must be %s, not %s%s"):format(entry.name, wanted, show(wrong == nil and v or wrong), hint or "")
  end
  if type(kept) == "number" then
    local least, most = entry.least, entry.most
    if least and most and (kept < least or kept > most) then
      return nil, ("%s must be %s to %s, not %s"):format(entry.name, least, most, kept)
    elseif least and kept < least then
      return nil, ("%s must be at least %s, not %s"):format(entry.name, least, kept)
    elseif most and kept > most then
      return nil, ("%s must be at most %s, not %s"):format(entry.name, most, kept)
    end
  end
  return kept
end

local function names_of(spec)
  local names = {}
  for i, entry in ipairs(spec) do names[i] = entry.name end
  return names
end

local function find(spec, name)
  for _, entry in ipairs(spec) do
    if entry.name == name then return entry end
  end
end

local function unknown(spec, name, what)
  local meant = core.options.nearest(name, names_of(spec))
  if meant then return ("%s has no option %s; did you mean %s?"):format(what, name, meant) end
  if not spec[1] then return ("%s has no option %s, it takes none"):format(what, name) end
  return ("%s has no option %s; it has %s"):format(what, name, table.concat(names_of(spec), ", "))
end

-- a list that is a default is nobody's to change
local function default(entry)
  local v = entry.default
  if entry.kind == "list" and type(v) == "table" then return table.move(v, 1, #v, 1, {}) end
  return v
end

--- Checks a table of options and gives it back with the defaults; what is wrong is an error at the caller's caller.
-- @param spec list of entries
-- @param given table or nil
-- @param what who takes them, for messages: "wane.gptq"
-- @param level whose line an error names, as for error; 3 unless given
function options.check(spec, given, what, level)
  level = level or 3
  if given == nil then given = {} end
  if type(given) ~= "table" then
    error(("%s takes a table of options, not %s"):format(what, show(given)), level)
  end
  local checked = {}
  for name, v in pairs(given) do
    if type(name) ~= "string" then
      error(("%s takes options by name: { name = %s }"):format(what, show(v)), level)
    end
    local entry = find(spec, name) or error(unknown(spec, name, what), level)
    local kept, wrong = examine(entry, v)
    if kept == nil then error(("%s: %s"):format(what, wrong), level) end
    checked[name] = kept
  end
  for _, entry in ipairs(spec) do
    if checked[entry.name] == nil then
      if entry.required then error(("%s needs %s: %s"):format(what, entry.name, entry.doc or entry.kind), level) end
      checked[entry.name] = default(entry)
    end
  end
  return checked
end

-- kind -> function(text, entry) -> what the text stands for; nil where it is not of that kind
local readers = {
  integer = function(text) return math.tointeger(tonumber(text)) end,
  number = function(text) return tonumber(text) end,
  string = function(text) return text end,
  device = function(text) return text end,
  bytes = function(text) return text end,
  any = function(text) return text end,
}

function readers.boolean(text)
  if text == "true" or text == "yes" or text == "on" then return true end
  if text == "false" or text == "no" or text == "off" then return false end
end

function readers.list(text, entry)
  local items, read = {}, readers[entry.of or "string"]
  for item in (text .. ","):gmatch("%s*(.-)%s*,") do items[#items + 1] = read(item, entry) or item end
  return items
end

readers["one of"] = function(text, entry)
  for _, choice in ipairs(entry.choices) do
    if text == tostring(choice) then return choice end
  end
end

--- The value that a text from a command line stands for; nil and what is wrong otherwise.
function options.parse(entry, text)
  local read = readers[entry.kind]
  if not read then return nil, ("%s cannot be given as a text"):format(entry.name) end
  local v = read(text, entry)
  if v == nil then v = text end
  return examine(entry, v)
end

--- Whether the option can be a flag of a command line.
function options.is_flag(entry) return readers[entry.kind] ~= nil end

--- The flag of an option: --group-size; for one that is on by itself, what switches it off: --no-sample.
function options.flag(entry)
  local dashed = entry.name:gsub("_", "-")
  return (entry.kind == "boolean" and entry.default == true and "--no-" or "--") .. dashed
end

local placeholders = { integer = "N", number = "X", bytes = "SIZE", list = "A,B", string = "TEXT", any = "TEXT",
                       device = "DEVICE" }

--- What stands after the flag in help: N, SIZE, a|b; nil for a switch.
function options.placeholder(entry)
  if entry.kind == "one of" then
    local names = {}
    for i, choice in ipairs(entry.choices) do names[i] = tostring(choice) end
    return table.concat(names, "|")
  end
  return placeholders[entry.kind]
end

-- a default as people write it; nil where it says nothing
local function shown_default(entry)
  local v = entry.default
  if v == nil or v == false or v == "" then return nil end
  if entry.kind == "boolean" then return "on" end
  if type(v) == "table" then
    local items = {}
    for i, item in ipairs(v) do items[i] = tostring(item) end
    return items[1] and table.concat(items, ",")
  end
  if entry.kind == "bytes" and math.type(v) == "integer" then return core.device.format_bytes(v) end
  return tostring(v)
end

--- One sentence about an option, with its unit, its limits and its default.
function options.sentence(entry)
  local notes = {}
  if entry.unit then notes[#notes + 1] = "in " .. entry.unit end
  if entry.least and entry.most then
    notes[#notes + 1] = ("%s to %s"):format(entry.least, entry.most)
  elseif entry.least then
    notes[#notes + 1] = ("at least %s"):format(entry.least)
  elseif entry.most then
    notes[#notes + 1] = ("at most %s"):format(entry.most)
  end
  if entry.required then notes[#notes + 1] = "needed" end
  local value = shown_default(entry)
  if value then notes[#notes + 1] = "default " .. value end
  local doc = entry.doc or ""
  if notes[1] then doc = ("%s (%s)"):format(doc, table.concat(notes, "; ")) end
  return doc
end

-- rows { left, right } -> lines in two columns
local function columns(rows)
  local width, lines = 0, {}
  for _, row in ipairs(rows) do width = math.max(width, #row[1] <= 30 and #row[1] or 0) end
  for i, row in ipairs(rows) do
    local gap = #row[1] > width and "\n" .. (" "):rep(width + 4) or (" "):rep(width - #row[1] + 2)
    lines[i] = "  " .. row[1] .. gap .. row[2]
  end
  return table.concat(lines, "\n")
end

--- The options as a table of a script takes them: a line each with name, kind and sentence.
function options.describe(spec)
  local rows = {}
  for i, entry in ipairs(spec) do
    rows[i] = { ("%s  %s"):format(entry.name, options.placeholder(entry) or entry.kind), options.sentence(entry) }
  end
  return columns(rows)
end

--- The options as flags of a command line: a line each.
function options.help(spec)
  local rows = {}
  for _, entry in ipairs(spec) do
    if options.is_flag(entry) then
      local value = options.placeholder(entry)
      rows[#rows + 1] = { options.flag(entry) .. (value and " " .. value or ""), options.sentence(entry) }
    end
  end
  return columns(rows)
end

--- The options as a table of the README.
function options.markdown(spec)
  local lines = { "| option | kind | default | meaning |", "|---|---|---|---|" }
  for _, entry in ipairs(spec) do
    local kind = entry.kind == "one of" and options.placeholder(entry):gsub("|", ", ") or entry.kind
    local doc = entry.unit and ("%s (in %s)"):format(entry.doc, entry.unit) or entry.doc
    lines[#lines + 1] = ("| `%s` | %s | %s | %s |"):format(entry.name, kind, shown_default(entry) or "",
      (doc:gsub("|", "\\|")))
  end
  return table.concat(lines, "\n")
end

local function usage_error(message) options.fail { code = "usage", message = message } end

-- flags of a spec: text -> { entry, value that a switch stands for }
local function flags_of(spec)
  local flags, names = {}, {}
  local function add(flag, entry, value)
    flags[flag] = { entry = entry, value = value }
    names[#names + 1] = flag
  end
  for _, entry in ipairs(spec) do
    local dashed = entry.name:gsub("_", "-")
    if entry.kind == "boolean" then
      add("--" .. dashed, entry, true)
      add("--no-" .. dashed, entry, false)
    elseif options.is_flag(entry) then
      add("--" .. dashed, entry)
    end
  end
  return flags, names
end

--- Reads the arguments of a recipe: --group-size 64, --group-size=64, --force, --no-force, and words in between.
-- Gives a table of options with defaults and the words at [1], [2]. --help raises code "help", which a program
-- prints; a wrong argument raises code "usage".
-- @param usage the recipe and its words, for messages: "quantize.lua MODEL OUT"
-- @param spec list of entries
-- @param given list of texts, as in arg
-- @param count how many words there must be; 0 unless given
function options.arguments(usage, spec, given, count)
  local flags, names = flags_of(spec)
  local found, words, i = {}, {}, 1
  local recipe = usage:match("^%S+")
  while i <= #given do
    local text = given[i]
    local name, value = text:match("^(%-%-[^=]+)=(.*)$")
    name = name or text
    if text == "-h" or text == "--help" then
      options.fail { code = "help", message = ("Usage: %s [options]\n\n%s"):format(usage, options.help(spec)) }
    elseif text == "--" then
      table.move(given, i + 1, #given, #words + 1, words)
      break
    elseif name:match("^%-%-?%a") then
      local flag = flags[name]
      if not flag then
        local meant = core.options.nearest(name, names)
        usage_error(("%s has no flag %s%s"):format(recipe, name, meant and ("; did you mean %s?"):format(meant)
          or "; see --help"))
      end
      local entry = flag.entry
      if flag.value ~= nil and not value then
        found[entry.name] = flag.value
      else
        if not value then
          i = i + 1
          value = given[i] or usage_error(("%s: %s needs a value"):format(recipe, name))
        end
        local kept, wrong = options.parse(entry, value)
        if kept == nil then usage_error(("%s: %s"):format(recipe, wrong)) end
        found[entry.name] = kept
      end
    else
      words[#words + 1] = text
    end
    i = i + 1
  end
  if #words ~= (count or 0) then
    usage_error(("usage: %s [options]; words given: %d, needed: %d"):format(usage, #words, count or 0))
  end
  for _, entry in ipairs(spec) do
    if found[entry.name] == nil and entry.required then
      usage_error(("%s needs %s: %s"):format(recipe, options.flag(entry), entry.doc or ""))
    end
  end
  local checked = options.check(spec, found, recipe)
  return table.move(words, 1, #words, 1, checked)
end

return options
