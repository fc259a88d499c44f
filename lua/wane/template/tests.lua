--- tests.lua: what may follow `is`.
--
-- Source: the Jinja 3.1 documentation, "List of Builtin Tests". Entries are as arguments.lua has them; the
-- first argument of `call` after the rendering is the value.
local arguments = require "wane.template.arguments"
local operators = require "wane.template.operators"
local unicode = require "wane.template.unicode"
local values = require "wane.template.values"

local tests = {}

local kind_of = values.kind

-- One test of the kind alone
local function kinds(...)
  local set = {}
  for _, kind in ipairs { ... } do
    set[kind] = true
  end
  return { call = function(_, v) return set[kind_of(v)] or false end }
end

tests.undefined = kinds "undefined"
tests.defined = { call = function(_, v) return kind_of(v) ~= "undefined" end }
tests.none = kinds "none"
tests.boolean = kinds "bool"
tests["true"] = { call = function(_, v) return v == true end }
tests["false"] = { call = function(_, v) return v == false end }
tests.integer = kinds "int"
tests.float = kinds "float"
tests.number = kinds("int", "float", "bool")
tests.string = kinds "str"
tests.mapping = kinds "dict"
tests.iterable = kinds("str", "list", "tuple", "dict", "view", "range", "generator", "undefined", "loop")
tests.sequence = kinds("str", "list", "tuple", "dict", "range", "undefined")
tests.callable = kinds("macro", "method", "builtin", "joiner", "loop", "undefined")

local function compare(operator)
  return { "other", least = 1, call = function(rt, v, other) return operators.compare(rt, operator, v, other) end }
end
for operator, names in pairs {
  ["=="] = "eq equalto", ["!="] = "ne", ["<"] = "lt lessthan", [">"] = "gt greaterthan", ["<="] = "le", [">="] = "ge",
} do
  tests[operator] = compare(operator)
  for name in names:gmatch "%a+" do
    tests[name] = tests[operator]
  end
end
tests["in"] = compare "in"

tests.sameas = {
  "other", least = 1,
  call = function(_, v, other) return rawequal(v, other) and math.type(v) == math.type(other) end,
}

local function remainder(rt, v, by) return operators.arithmetic(rt, "%", v, by) end
tests.even = { call = function(rt, v) return remainder(rt, v, 2) == 0 end }
tests.odd = { call = function(rt, v) return remainder(rt, v, 2) == 1 end }
tests.divisibleby = { "num", least = 1, call = function(rt, v, num) return remainder(rt, v, num) == 0 end }

for name, convert in pairs { upper = unicode.upper, lower = unicode.lower } do
  tests[name] = {
    call = function(rt, v)
      local text = values.text(rt, v)
      rt:charge(#text)
      return convert(text) == text and unicode.upper(text) ~= unicode.lower(text)
    end,
  }
end

--- Whether a value passes the test of that name, with the arguments after it.
function tests.check(rt, name, v, args, named)
  local entry = tests[name]
  if type(entry) ~= "table" then rt:fail(("unknown test %q"):format(name), "unsupported") end
  return arguments.call(rt, "test " .. name, entry, v, args, named)
end

return tests
