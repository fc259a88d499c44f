--- wane: make a large language model small, and prove what that cost.
-- What `require "wane"` gives. Every module lua/wane/NAME.lua is wane.NAME, loaded when it is first named.
local core = require "wane.core"
local modules = require "wane.modules"
local options = require "wane.options"

local wane = { core = core, error = core.error, version = core.version, tensor = core.tensor }

local function settle(code, ok, ...)
  if ok then return ... end
  local err = ...
  if getmetatable(err) == core.error and err.code == code then return nil, err end
  error(err, 0)
end

--- Runs f(...); gives nil and the error where it failed with that code, and lets any other error pass.
-- @param code "oom", "io", "format", "unsupported", "numeric", "network", "device" or "interrupted"
-- @return f's results, or nil and the error object
function wane.try(code, f, ...) return settle(code, pcall(f, ...)) end

--- Raises an error object, as the library does: wane.fail { code = "gate", message = "lost 3 points" }.
function wane.fail(fields)
  if type(fields) ~= "table" or type(fields.code) ~= "string" or type(fields.message) ~= "string" then
    error("wane.fail takes { code = ..., message = ... }", 2)
  end
  return options.fail(fields)
end

wane.device_options = {
  { name = "name", kind = "string", default = "auto", doc = "auto, cpu, cuda or cuda:1" },
  { name = "memory", kind = "bytes", doc = "most that may lie on the device at once; no limit unless given" },
  { name = "host_memory", kind = "bytes", doc = "most that may wait on the host; no limit unless given" },
}

--- Chooses the device that computes and its budget: wane.device { name = "auto", memory = "24GiB" }.
-- Without a table it only tells. Tensors and models made before stay on the device they were made on.
-- @return { name, description, threads, total, free, live, peak, memory }
function wane.device(given)
  if given ~= nil then
    local o = options.check(wane.device_options, given, "wane.device")
    core.device.open(o.name, o.memory, o.host_memory)
  end
  return core.device.info()
end

--- Bytes as people write them: a number gives "24 GiB", a text gives the number.
function wane.bytes(n)
  if type(n) == "string" then return core.device.bytes(n) end
  return core.device.format_bytes(n)
end

--- What is known about a name: wane.help "tensor.zeros". The prompt's ?name shows the same.
function wane.help(name) return require("wane.help").about(name) end

-- what can be named: the modules in Lua, those in C, and what stands above
local function names()
  local found = {}
  for _, name in ipairs(modules.list "wane") do found[#found + 1] = name:match("[^.]+$") end
  for name, value in pairs(core) do
    if type(value) == "table" then found[#found + 1] = name end
  end
  for name in pairs(wane) do found[#found + 1] = name end
  return found
end

-- core's tables that are no modules
local private = { docs = true, error = true, embedded = true, options = true, device = true, quant = true }

local function load_module(_, name)
  if type(name) ~= "string" then return nil end
  local value
  if not name:find("[^%w_]") and modules.exists("wane." .. name) then
    value = require("wane." .. name)
  elseif type(core[name]) == "table" and not private[name] then
    value = core[name]
  elseif require("wane.methods")[name] then
    value = require("wane.methods")[name]
  else
    local meant = core.options.nearest(name, names())
    error(("wane has no %s%s"):format(name, meant and ("; did you mean %s?"):format(meant) or ""), 2)
  end
  wane[name] = value
  return value
end

return setmetatable(wane, { __index = load_module, __name = "wane" })
