--- Help from the sources: C functions carry a line of documentation, Lua functions the comment above them.
local core = require "wane.core"
local modules = require "wane.modules"
local options = require "wane.options"

local help = {}

-- module name -> what its source tells: { summary, text, entries = { { name, signature, text } } }
local read_before = {}

local function flush(block) return block and table.concat(block, "\n") or nil end

-- The name and the signature that a line declares, or nil.
local function declared(line)
  local name, rest = line:match("^function%s+([%w_.:]+)%s*(%b())")
  if not name then
    name, rest = line:match("^([%a_][%w_]*%.[%w_.]+)%s*=%s*function%s*(%b())")
  end
  if name then return name, name .. rest end
end

-- The tables whose functions others can call: what the module returns, and what values of it are indexed with.
local function reachable(source)
  local found = { [source:match "\nreturn%s+([%a_][%w_]*)%s*$" or source:match "\nreturn%s+setmetatable%(([%a_][%w_]*)"
    or ""] = true }
  for name in source:gmatch "([%a_][%w_]*)%.__index%s*=" do found[name] = true end
  for name in source:gmatch "__index%s*=%s*([%a_][%w_]*)" do found[name] = true end
  return found
end

local function read(module)
  if read_before[module] then return read_before[module] end
  local source = modules.source(module)
  if not source then return nil end
  local page, open = { entries = {}, module = module }, reachable(source)
  local block
  for line in (source .. "\n"):gmatch("(.-)\r?\n") do
    local opening = line:match("^%-%-%-%s?(.*)$")
    local more = block and line:match("^%-%-%s?(.*)$")
    if opening then
      block = { opening }
    elseif more then
      block[#block + 1] = more
    else
      local name, signature = declared(line)
      if name then
        page.entries[#page.entries + 1] = {
          name = name:gsub(":", "."), signature = signature, text = flush(block),
          public = open[name:match("^[^.:]+")] and name:find("[.:]") and not name:find("[.:]__") and true or false,
        }
      elseif block and not page.text and not page.entries[1] then
        page.text = flush(block)
        page.summary = block[1]:gsub("%.%s*$", "")
      end
      block = nil
    end
  end
  read_before[module] = page
  return page
end

--- The documentation of a Lua module: { text, summary, entries = { { name, signature, text, public } } }, or nil.
function help.page(module) return read(module) end

--- The option table that a name takes: its module's spec, or NAME_options beside a function; nil where there is none.
function help.spec(name)
  name = name:gsub("^wane%.", "")
  local ok, wane = pcall(require, "wane")
  if not ok then return nil end
  local holder, key = wane, name
  if name:find(".", 1, true) then
    local found
    found, holder = pcall(function() return wane[name:match("^[^.]+")] end)
    key = name:match("[^.]+$")
    if not found or type(holder) ~= "table" then return nil end
  end
  local beside = rawget(holder, key .. "_options")
  if type(beside) == "table" then return beside end
  local there, value = pcall(function() return holder[key] end)
  local spec = there and type(value) == "table" and (rawget(value, "spec") or rawget(value, "options"))
  return type(spec) == "table" and type(spec[1]) == "table" and spec[1].name and spec or nil
end

local function indent(text) return "  " .. text:gsub("\n", "\n  ") end

-- the line of a bound function or method, with its module before it
local function bound(key)
  local module, line = key:match("^(.*)%.[^.]+$"), core.docs[key]
  if line:find("^" .. module .. "[.:]") then return line end
  return module .. "." .. line
end

-- Methods that are written in Lua are documented when their module is loaded.
local function load_all()
  for _, module in ipairs(modules.list "wane") do pcall(require, module) end
end

-- name -> list of texts: every function that is called so, in Lua or in C
local function functions(name)
  local found = {}
  if core.docs[name] then found[#found + 1] = bound(name) end
  for _, module in ipairs(modules.list "wane") do
    for _, entry in ipairs(read(module).entries) do
      local last = module:match("[^.]+$") .. "." .. entry.name:match("[^.]+$")
      if entry.text and (entry.name == name or last == name or entry.name == "wane." .. name) then
        found[#found + 1] = entry.signature .. "\n" .. indent(entry.text)
      end
    end
  end
  local top = read "wane"
  for _, entry in ipairs(top.entries) do
    if entry.name == "wane." .. name and entry.text then
      found[#found + 1] = entry.signature .. "\n" .. indent(entry.text)
    end
  end
  return found
end

-- what a script has no business with, unless it asks for core.NAME
local private = { core = true, device = true, embedded = true, options = true, system = true, edit = true }

-- The functions of a module in C and in Lua, a line each.
local function contents(name)
  local lines = {}
  local asked = name:match("^core%.(.+)$")
  for key in pairs(core.docs) do
    local module = key:match("^(.*)%.")
    if module == asked or (module == name and not private[name]) then
      lines[#lines + 1] = "  " .. bound(key)
    end
  end
  table.sort(lines)
  local page = read("wane." .. name)
  for _, entry in ipairs(page and page.entries or {}) do
    if entry.text and entry.public then
      lines[#lines + 1] = ("  %s  %s"):format(entry.signature, entry.text:match("^[^\n]*"))
    end
  end
  return lines, page
end

-- every name that has help
local function all_names()
  local names = {}
  for key in pairs(core.docs) do names[#names + 1] = key end
  for _, module in ipairs(modules.list "wane") do
    names[#names + 1] = module:match("[^.]+$")
    for _, entry in ipairs(read(module).entries) do
      if entry.text then names[#names + 1] = entry.name end
    end
  end
  for _, entry in ipairs(read("wane").entries) do names[#names + 1] = entry.name:match("[^.]+$") end
  return names
end

local function overview()
  local lines = { read("wane").text, "", "?name tells more about:" }
  for _, module in ipairs(modules.list "wane") do
    local page = read(module)
    lines[#lines + 1] = ("  %-14s %s"):format(module:match("[^.]+$"), page.summary or "")
  end
  return table.concat(lines, "\n")
end

-- names that end so, where the whole name is not given: zeros for tensor.zeros
local function endings(name)
  local found = {}
  for _, full in ipairs(all_names()) do
    if full:match("[^.]+$") == name and not found[full] then
      found[full] = true
      found[#found + 1] = full
    end
  end
  table.sort(found)
  return found
end

-- what a value of wane's says of itself, where it does: a method with its defaults and its source
local function words_of(name)
  local ok, value = pcall(function() return require("wane")[name] end)
  local meta = ok and type(value) == "table" and getmetatable(value)
  return type(meta) == "table" and rawget(meta, "__tostring") and tostring(value) or nil
end

--- What is known about a name, a module or a value of wane's, as text; a name that is unknown is an error.
function help.about(name)
  if name == nil or name == "" or name == "wane" then return overview() end
  if type(name) ~= "string" then
    local meta = getmetatable(name)
    name = type(meta) == "table" and meta.__name or type(name)
  end
  load_all()
  name = name:gsub("^wane%.", ""):gsub(":", ".")
  local parts = functions(name)
  local lines, page = contents(name)
  parts[#parts + 1] = words_of(name)
  if page and page.text then parts[#parts + 1] = page.text end
  local spec = help.spec(name)
  if spec then parts[#parts + 1] = "options:\n" .. options.describe(spec) end
  if lines[1] then parts[#parts + 1] = table.concat(lines, "\n") end
  if parts[1] then return table.concat(parts, "\n") end
  local same = endings(name)
  if same[2] then return "which one?\n  " .. table.concat(same, "\n  ") end
  if same[1] then return help.about(same[1]) end
  local meant = core.options.nearest(name, all_names())
  error(("there is no help for %s%s"):format(name, meant and ("; did you mean %s?"):format(meant) or ""), 0)
end

return help
