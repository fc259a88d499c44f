--- evaluator.lua: turns the tree of an expression into Lua functions.
--
-- Each node becomes one closure, function(rt, scope) -> value: rt is the rendering, scope a table that holds
-- variables under "." .. name and finds those of outer scopes through its metatable (no name of a template can
-- meet a key that Lua gives a meaning). What may fail first notes its place in rt.at.
local arguments = require "wane.template.arguments"
local functions = require "wane.template.functions"
local filters = require "wane.template.filters"
local methods = require "wane.template.methods"
local operators = require "wane.template.operators"
local tests = require "wane.template.tests"
local values = require "wane.template.values"

local evaluator = {}

local kind_of, truth = values.kind, values.truth

local BUILD = {}

--- The function of a node.
local function build(node) return BUILD[node.kind](node) end
evaluator.build = build

local function build_all(nodes)
  local out = {}
  for i, node in ipairs(nodes) do
    out[i] = build(node)
  end
  return out, #nodes
end

BUILD.constant = function(node)
  local value = node.value
  return function() return value end
end

BUILD.none = function()
  return function() return values.none end
end

BUILD.name = function(node)
  local key, unknown = "." .. node.name, values.undefined(("'%s' is undefined"):format(node.name))
  return function(_, scope)
    local value = scope[key]
    if value == nil then return unknown end
    return value
  end
end

-- What a set block or filter block has captured
BUILD.captured = function()
  return function(rt) return rt.captured end
end

local function build_list(node)
  local items, n = build_all(node.items)
  local kind = node.kind
  return function(rt, scope)
    rt:charge(16 + 8 * n)
    local out = {}
    for i = 1, n do
      out[i] = items[i](rt, scope)
    end
    return values.list(out, n, kind)
  end
end
BUILD.list, BUILD.tuple = build_list, build_list

BUILD.dict = function(node)
  local keys, n = build_all(node.keys)
  local items = build_all(node.items)
  local pos = node.pos
  return function(rt, scope)
    rt:charge(40 + 32 * n)
    local out = values.dict()
    for i = 1, n do
      local key = keys[i](rt, scope)
      if not values.put(out, key, items[i](rt, scope)) then
        rt.at = pos
        arguments.defined(rt, key)
        rt:fail(("a %s cannot be a key"):format(values.type_name(key)))
      end
    end
    return out
  end
end

-- Runs of text that are added are joined at once: a prompt is mostly that.
BUILD.chain = function(node)
  local first, operands, n = build(node.first), build_all(node.operands)
  local signs, places = node.operators, node.places
  return function(rt, scope)
    rt:charge(1 + 4 * n)
    local value = first(rt, scope)
    local pieces, count = nil, 0
    for i = 1, n do
      local right = operands[i](rt, scope)
      if signs[i] == "+" and type(value) == "string" and type(right) == "string" then
        if not pieces then pieces, count = { value }, 1 end
        count = count + 1
        pieces[count] = right
      else
        if pieces then
          value, pieces = rt:join(pieces, "", count), nil
        end
        rt.at = places[i]
        value = operators.arithmetic(rt, signs[i], value, right)
      end
    end
    if pieces then
      rt.at = places[n]
      return rt:join(pieces, "", count)
    end
    return value
  end
end

BUILD.concat = function(node)
  local items, n = build_all(node.items)
  local pos = node.pos
  return function(rt, scope)
    rt:charge(n)
    local out = {}
    for i = 1, n do
      local value = items[i](rt, scope)
      rt.at = pos
      out[i] = values.text(rt, value)
    end
    return rt:join(out, "", n)
  end
end

BUILD.sign = function(node)
  local value, sign, pos = build(node.value), node.sign, node.pos
  return function(rt, scope)
    local v = value(rt, scope)
    rt.at = pos
    rt:charge(2)
    return operators.signed(rt, sign, v)
  end
end

BUILD["not"] = function(node)
  local value = build(node.value)
  return function(rt, scope)
    rt:charge(1)
    return not truth(value(rt, scope))
  end
end

BUILD["and"] = function(node)
  local items, n = build_all(node.items)
  return function(rt, scope)
    local value
    for i = 1, n do
      rt:charge(1)
      value = items[i](rt, scope)
      if not truth(value) then return value end
    end
    return value
  end
end

BUILD["or"] = function(node)
  local items, n = build_all(node.items)
  return function(rt, scope)
    local value
    for i = 1, n do
      rt:charge(1)
      value = items[i](rt, scope)
      if truth(value) then return value end
    end
    return value
  end
end

BUILD.compare = function(node)
  local first, operands, n = build(node.first), build_all(node.operands)
  local signs, places = node.operators, node.places
  return function(rt, scope)
    local left = first(rt, scope)
    for i = 1, n do
      rt:charge(5)
      local right = operands[i](rt, scope)
      rt.at = places[i]
      if not operators.compare(rt, signs[i], left, right) then return false end
      left = right
    end
    return true
  end
end

BUILD.conditional = function(node)
  local test, yes = build(node.test), build(node.yes)
  local no = node.no and build(node.no)
  local unknown = values.undefined "the condition was false and there is no else"
  return function(rt, scope)
    rt:charge(1)
    if truth(test(rt, scope)) then return yes(rt, scope) end
    if no then return no(rt, scope) end
    return unknown
  end
end

BUILD.attribute = function(node)
  local object, name, pos = build(node.object), node.name, node.pos
  return function(rt, scope)
    local v = object(rt, scope)
    rt.at = pos
    rt:charge(4)
    return operators.attribute(rt, v, name)
  end
end

BUILD.item = function(node)
  local object, index, pos = build(node.object), build(node.index), node.pos
  return function(rt, scope)
    local v, i = object(rt, scope), index(rt, scope)
    rt.at = pos
    rt:charge(4)
    return operators.item(rt, v, i)
  end
end

BUILD.slice = function(node)
  local absent = { kind = "none" }
  local object, pos = build(node.object), node.pos
  local start, stop, step = build(node.start or absent), build(node.stop or absent), build(node.step or absent)
  return function(rt, scope)
    local v, a, b, c = object(rt, scope), start(rt, scope), stop(rt, scope), step(rt, scope)
    rt.at = pos
    rt:charge(2)
    return operators.slice(rt, v, a, b, c)
  end
end

-- Adds the items of *star and the keys of **stars.
local function spread(rt, args, named, star, stars)
  if star then
    local items, n = values.items(rt, star)
    table.move(items, 1, n, args.n + 1, args)
    args.n = args.n + n
  end
  if stars then
    if kind_of(stars) ~= "dict" then rt:fail(("** wants a dict, not %s"):format(values.type_name(stars))) end
    named = named or values.dict()
    for i = 1, stars.n do
      local key = stars.keys[i]
      if type(key) ~= "string" then rt:fail "** wants a dict whose keys are text" end
      if named.map[key] ~= nil then rt:fail(("the argument %s is given twice"):format(key)) end
      values.put(named, key, stars.map[key])
    end
    rt:charge(8 * stars.n)
  end
  return args, named
end

local NO_ARGUMENTS = { n = 0 }

-- function(rt, scope) -> args, named, as arguments.call wants them
local function build_arguments(node, pos)
  if not node then
    return function() return NO_ARGUMENTS end
  end
  local items, n = build_all(node.items)
  local named_values, names_n = build_all(node.values)
  local names = node.names
  local star, stars = node.star and build(node.star), node.stars and build(node.stars)
  return function(rt, scope)
    rt:charge(8 + 4 * n + 16 * names_n)
    local args, named = { n = n }, nil
    for i = 1, n do
      args[i] = items[i](rt, scope)
    end
    if names_n > 0 then
      named = values.dict()
      for i = 1, names_n do
        values.put(named, names[i], named_values[i](rt, scope))
      end
    end
    if star or stars then
      local more, by_name = star and star(rt, scope), stars and stars(rt, scope)
      rt.at = pos
      return spread(rt, args, named, more, by_name)
    end
    return args, named
  end
end

--- Calls a value.
-- @param name how messages call it, may be nil
local function call_value(rt, f, args, named)
  local kind = kind_of(f)
  if kind == "macro" then return f.run(rt, args, named) end
  if kind == "builtin" then
    return arguments.call(rt, "function " .. f.name, functions[f.name], nil, args, named)
  elseif kind == "method" then
    local own = methods[kind_of(f.target)][f.name]
    return arguments.call(rt, "method " .. f.name, own, f.target, args, named)
  elseif kind == "joiner" then
    if f.used then return f.sep end
    f.used = true
    return ""
  elseif kind == "loop" and f.recurse then
    if args.n ~= 1 or named then rt:fail "loop() wants what to loop over" end
    return f.recurse(rt, args[1])
  end
  arguments.defined(rt, f)
  rt:fail(("%s cannot be called"):format(values.type_name(f)))
end

BUILD.call = function(node)
  local pos, target = node.pos, node.target
  local collect = build_arguments(node.arguments, pos)
  if target.kind == "attribute" then
    local object, name = build(target.object), target.name
    local label = "method " .. name
    return function(rt, scope)
      local v = object(rt, scope)
      local args, named = collect(rt, scope)
      rt.at = pos
      rt:charge(6)
      local own = methods[kind_of(v)]
      local entry = own and own[name]
      if entry then return arguments.call(rt, label, entry, v, args, named) end
      return call_value(rt, operators.attribute(rt, v, name), args, named)
    end
  end
  local callee = build(target)
  return function(rt, scope)
    local f = callee(rt, scope)
    local args, named = collect(rt, scope)
    rt.at = pos
    rt:charge(8)
    return call_value(rt, f, args, named)
  end
end

--- A call that also hands over `caller`, for {% call %}.
-- @return function(rt, scope, caller) -> value
function evaluator.build_call(node)
  local pos, callee = node.pos, build(node.target)
  local collect = build_arguments(node.arguments, pos)
  return function(rt, scope, caller)
    local f = callee(rt, scope)
    local args, named = collect(rt, scope)
    rt.at = pos
    rt:charge(8)
    named = named or values.dict()
    values.put(named, "caller", caller)
    return call_value(rt, f, args, named)
  end
end

BUILD.filter = function(node)
  local value, pos, entry = build(node.value), node.pos, filters[node.name]
  local label, collect = "filter " .. node.name, build_arguments(node.arguments, pos)
  return function(rt, scope)
    local v = value(rt, scope)
    local args, named = collect(rt, scope)
    rt.at = pos
    rt:charge(6)
    return arguments.call(rt, label, entry, v, args, named)
  end
end

BUILD.test = function(node)
  local value, pos, entry, negated = build(node.value), node.pos, tests[node.name], node.negated
  local label, collect = "test " .. node.name, build_arguments(node.arguments, pos)
  return function(rt, scope)
    local v = value(rt, scope)
    local args, named = collect(rt, scope)
    rt.at = pos
    rt:charge(5)
    return arguments.call(rt, label, entry, v, args, named) ~= negated
  end
end

return evaluator
