--- The quantization methods: wane.gptq { bits = 4 } and its siblings make plans.
-- Everything but the calls follows from the tables in C (runtime/quant/methods.def): names, options, checks, help.
local core = require "wane.core"
local formats = require "wane.formats"
local options = require "wane.options"

-- Where the result is to be saved in one that its method would not take by itself: it decides the scales' type.
local format_option = { name = "format", kind = "one of", choices = formats.names,
                        doc = "what the codes are made for; the method's own unless given" }

-- A plan is a table of a method's name and all its options; it is not changed once made.
local plan = { __name = "wane.plan" }

local function is_default(entry, value, others)
  if entry.default == nil then return value == others[entry.name] end
  return value == entry.default
end

-- wane.hqq { bits = 4, group_size = 64 }: the grid, and what was asked for besides
function plan.__tostring(self)
  local parts = { ("bits = %d, group_size = %d"):format(self.bits, self.group_size) }
  local own = core.quant.settle(self.method, { bits = self.bits, group_size = self.group_size })
  for _, entry in ipairs(plan.methods[self.method].options) do
    local value = self[entry.name]
    if entry.name ~= "bits" and entry.name ~= "group_size" and not is_default(entry, value, own) then
      parts[#parts + 1] = ("%s = %s"):format(entry.name, type(value) == "string" and ("%q"):format(value) or value)
    end
  end
  return ("%s { %s }"):format(self.method, table.concat(parts, ", "))
end

function plan.__eq(a, b)
  if a.method ~= b.method then return false end
  for _, entry in ipairs(plan.methods[a.method].options) do
    if a[entry.name] ~= b[entry.name] then return false end
  end
  return true
end

local method = { __name = "wane.method" }
method.__index = method

function method.__tostring(self)
  local defaults = {}
  for _, entry in ipairs(self.options) do
    if entry.default ~= nil then defaults[#defaults + 1] = ("%s = %s"):format(entry.name, tostring(entry.default)) end
  end
  return ("%s { %s }\n  %s. %s."):format(self.name, table.concat(defaults, ", "), self.doc, self.paper)
end

-- a plan from a table of options, or the plan itself
local function to_plan(self, given, level)
  if getmetatable(given) == plan and given.method == self.name then return given end
  local what = "wane." .. self.name
  local checked = options.check(self.options, given, what, level + 1)
  local ok, made, label = pcall(core.quant.settle, self.name, checked)
  if not ok then error((tostring(made):gsub("^.-(wane%.)", "%1", 1)), level) end
  made.method, made.label, made.format = self.name, self.name .. " " .. label, checked.format
  return setmetatable(made, plan)
end

--- Makes a plan: wane.gptq { bits = 4, group_size = 128 }. Unknown options are refused with the nearest name.
-- @return plan { method, label, bits, group_size, ... }; prints itself, compares with ==
function method:__call(given) return to_plan(self, given, 2) end

-- statistics as the core has them, from a table of tensors; nil stays nil: white inputs
local function to_stats(p, stats)
  if type(stats) == "table" then return core.quant.stats(p, stats) end
  return stats
end

--- Codes of one matrix, to look at a method by hand: local q = wane.hqq.encode(w, { bits = 4 }).
-- Without statistics inputs are taken as white: independent, of variance 1. Nothing is rescaled, as there is nothing
-- that a scale could be folded into.
-- @param w tensor (m, k)
-- @param given options, or a plan
-- @param stats nil or { gram = x^T x, mean = mean |x|, max = max |x| }
-- @return codes, { error, rtn_error, seconds, ... }
-- @error oom, unsupported (groups that do not divide k)
function method.encode(self, w, given, stats)
  local p = to_plan(self, given, 3)
  local stage <close> = core.quant.matrix(p, w, to_stats(p, stats))
  local result, codes = stage:encode(1)
  return codes, result
end

--- The scale that a method would give the columns of one matrix: awq and smoothquant; 1 everywhere otherwise.
-- @return tensor (1, k), what the method noted: { ratio } or { alpha }
function method.scale(self, w, given, stats)
  local p = to_plan(self, given, 3)
  local stage <close> = core.quant.matrix(p, w, to_stats(p, stats))
  return stage:scale()
end

-- method.encode(w, ...) and method.scale(w, ...) know their method
local function bind(entry)
  local self = setmetatable(entry, method)
  entry.options[#entry.options + 1] = format_option
  for _, name in ipairs { "encode", "scale" } do
    local f = method[name]
    entry[name] = function(...) return f(self, ...) end
  end
  for _, option in ipairs(entry.options) do entry.options[option.name] = option end
  return self
end

local methods = {}
for i, entry in ipairs(core.quant.methods()) do
  methods[i] = bind(entry)
  methods[entry.name] = methods[i]
end
plan.methods = methods

--- Whether a value is a plan.
function methods.is_plan(value) return getmetatable(value) == plan end

--- wane.methods() -> the list of methods, each { name, paper, doc, needs_text, options }
return setmetatable(methods, { __call = function(self) return { table.unpack(self) } end })
