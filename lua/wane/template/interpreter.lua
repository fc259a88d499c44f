--- interpreter.lua: turns the statements of a template into Lua functions, and runs them.
--
-- Each statement becomes function(rt, scope) -> nil, "break" or "continue"; see evaluator.lua for rt and scope.
-- Scopes are Jinja's: a loop's pass, a macro, with, generation and the bodies of set, call and filter blocks
-- have their own, and what is set there is gone after them; `if` has none. What must outlive a loop goes into
-- a namespace.
local evaluator = require "wane.template.evaluator"
local functions = require "wane.template.functions"
local loops = require "wane.template.loops"
local values = require "wane.template.values"

local interpreter = {}

local truth = values.truth
local build_value = evaluator.build

local BUILD = {}

local function build(nodes)
  local list, n = {}, #nodes
  for i, node in ipairs(nodes) do
    list[i] = BUILD[node.kind](node)
  end
  if n == 1 then return list[1] end
  return function(rt, scope)
    for i = 1, n do
      local signal = list[i](rt, scope)
      if signal then return signal end
    end
  end
end

local function inner(rt, scope)
  rt:charge(16)
  scope.__index = scope
  return setmetatable({}, scope)
end

BUILD.data = function(node)
  local text, pos = node.text, node.pos
  return function(rt)
    rt.at = pos
    rt:write(text)
  end
end

BUILD.output = function(node)
  local value, pos = build_value(node.value), node.pos
  return function(rt, scope)
    local v = value(rt, scope)
    rt.at = pos
    if type(v) ~= "string" then v = values.text(rt, v) end
    rt:charge(4)
    rt:write(v)
  end
end

BUILD["if"] = function(node)
  local n, tests, bodies = #node.tests, {}, {}
  for i = 1, n do
    tests[i], bodies[i] = build_value(node.tests[i]), build(node.bodies[i])
  end
  local otherwise = node.otherwise and build(node.otherwise)
  return function(rt, scope)
    for i = 1, n do
      rt:charge(4)
      if truth(tests[i](rt, scope)) then return bodies[i](rt, scope) end
    end
    if otherwise then return otherwise(rt, scope) end
  end
end

-- function(rt, scope, value) that sets a target
local function build_target(node)
  local pos = node.pos
  if node.kind == "name" then
    local key = "." .. node.name
    return function(_, scope, value) scope[key] = value end
  elseif node.kind == "attribute" then
    local key, name = "." .. node.object, node.name
    return function(rt, scope, value)
      local object = scope[key]
      rt.at = pos
      if object == nil or values.kind(object) ~= "namespace" then
        rt:fail(("%s is no namespace, so %s.%s cannot be set"):format(node.object, node.object, name))
      end
      rt:charge(16)
      values.put(object.attributes, name, value)
    end
  end
  local parts = {}
  for i, item in ipairs(node.items) do
    parts[i] = build_target(item)
  end
  return function(rt, scope, value)
    rt.at = pos
    local items, n = values.items(rt, value)
    if n ~= #parts then rt:fail(("%d names for %d values"):format(#parts, n)) end
    for i = 1, n do
      parts[i](rt, scope, items[i])
    end
  end
end

BUILD.set = function(node)
  local value, assign = build_value(node.value), build_target(node.target)
  return function(rt, scope)
    rt:charge(4)
    assign(rt, scope, value(rt, scope))
  end
end

-- function(rt, scope) -> the text that a body writes, through the filters of `node.value`
local function build_captured(node)
  local body, value = build(node.body), build_value(node.value)
  return function(rt, scope)
    local text = rt:capture(body, rt, inner(rt, scope))
    local before = rt.captured
    rt.captured = text
    local v = value(rt, scope)
    rt.captured = before
    return v
  end
end

BUILD.set_block = function(node)
  local captured, assign = build_captured(node), build_target(node.target)
  return function(rt, scope) assign(rt, scope, captured(rt, scope)) end
end

BUILD.filter_block = function(node)
  local captured, pos = build_captured(node), node.pos
  return function(rt, scope)
    local v = captured(rt, scope)
    rt.at = pos
    rt:write(values.text(rt, v))
  end
end

BUILD.with = function(node)
  local assigns, items, body = {}, {}, build(node.body)
  for i, target in ipairs(node.targets) do
    assigns[i], items[i] = build_target(target), build_value(node.values[i])
  end
  return function(rt, scope)
    local own = inner(rt, scope)
    for i = 1, #assigns do
      assigns[i](rt, own, items[i](rt, scope))
    end
    return body(rt, own)
  end
end

BUILD.generation = function(node)
  local body = build(node.body)
  return function(rt, scope) return body(rt, inner(rt, scope)) end
end

BUILD["break"] = function()
  return function() return "break" end
end

BUILD["continue"] = function()
  return function() return "continue" end
end

BUILD["for"] = function(node)
  local items, assign, body = build_value(node.items), build_target(node.target), build(node.body)
  local test, otherwise = node.test and build_value(node.test), node.otherwise and build(node.otherwise)
  local pos, recursive = node.pos, node.recursive

  -- Only the items that pass the test, taken as they are wanted
  local function passing(rt, scope, take)
    if not test then return take end
    return function()
      for item in take do
        local own = inner(rt, scope)
        assign(rt, own, item)
        if truth(test(rt, own)) then return item end
      end
    end
  end

  local function run(rt, scope, source, depth)
    rt.at = pos
    local take = values.iterate(rt, source)
    if not take then rt:fail(("for: %s is not iterable"):format(values.type_name(source))) end
    rt:charge(32)
    local loop = loops.new(rt, passing(rt, scope, take), depth)
    if recursive then
      function loop.recurse(_, more)
        rt:enter()
        local text = rt:capture(run, rt, scope, more, depth + 1)
        rt.depth = rt.depth - 1
        return text
      end
    end
    local whole_pass = false -- as in Jinja, a pass that break or continue cuts short does not keep `else` away
    for item in loops.next, loop do
      rt:charge(2)
      local own = inner(rt, scope)
      own[".loop"] = loop
      assign(rt, own, item)
      local signal = body(rt, own)
      if signal == "break" then break end
      whole_pass = whole_pass or not signal
    end
    if otherwise and not whole_pass then return otherwise(rt, inner(rt, scope)) end
  end

  return function(rt, scope) return run(rt, scope, items(rt, scope), 1) end
end

-- Hands the arguments of a call to the parameters of a macro.
local function bind(rt, macro, own, args, named)
  local names, defaults, uses = macro.parameters.names, macro.default_values, macro.uses
  local rest = values.dict()
  local taken = {}
  for i, name in ipairs(names) do
    taken[name] = i
    if i <= args.n then own["." .. name] = args[i] end
  end
  for i = 1, named and named.n or 0 do
    local name = named.keys[i]
    local value, at = named.map[name], taken[name]
    if at then
      if at <= args.n then rt:fail(("macro %s: the argument %s is given twice"):format(macro.name, name)) end
      own["." .. name] = value
    elseif name == "caller" and uses.caller then
      own[".caller"] = value
    else
      values.put(rest, name, value)
    end
  end
  for i, name in ipairs(names) do
    local key = "." .. name
    if rawget(own, key) == nil then
      own[key] = values.undefined(("parameter '%s' was not provided"):format(name))
      if defaults[i] then own[key] = defaults[i](rt, own) end
    end
  end
  if uses.kwargs then
    own[".kwargs"] = rest
  elseif rest.n > 0 then
    rt:fail(("macro %s has no parameter %s"):format(macro.name, rest.keys[1]), "format")
  end
  if uses.varargs then
    local extra = table.move(args, #names + 1, args.n, 1, {})
    own[".varargs"] = values.list(extra, math.max(args.n - #names, 0), "tuple")
  elseif args.n > #names then
    rt:fail(("macro %s takes %d arguments, %d given"):format(macro.name, #names, args.n))
  end
  if uses.caller and rawget(own, ".caller") == nil then
    own[".caller"] = values.undefined "there is no caller: this macro was not called by a call block"
  end
end

-- function(rt, scope) -> a macro that runs the node's body in that scope
local function build_macro(node)
  local body, pos = build(node.body), node.pos
  local macro = { name = node.name, parameters = node.parameters, uses = node.uses, default_values = {} }
  for i, default in pairs(node.parameters.defaults) do
    macro.default_values[i] = build_value(default)
  end
  local arguments = values.list(table.move(node.parameters.names, 1, #node.parameters.names, 1, {}), nil, "tuple")
  return function(rt, scope)
    rt:charge(32)
    local function run(_, args, named)
      rt:enter()
      rt:charge(16)
      local own = inner(rt, scope)
      bind(rt, macro, own, args, named)
      local text = rt:capture(body, rt, own)
      rt.depth = rt.depth - 1
      rt.at = pos
      return text
    end
    return { kind = "macro", name = node.name, arguments = arguments, run = run }
  end
end

BUILD.macro = function(node)
  local make, key = build_macro(node), "." .. node.name
  return function(rt, scope) scope[key] = make(rt, scope) end
end

BUILD.call_block = function(node)
  local make, call, pos = build_macro(node), evaluator.build_call(node.value), node.pos
  return function(rt, scope)
    local v = call(rt, scope, make(rt, scope))
    rt.at = pos
    rt:write(values.text(rt, v))
  end
end

--- Compiles the nodes of a template into function(rt, variables).
-- @return function(rt, variables); variables is a dict
function interpreter.compile(nodes)
  local body = build(nodes)
  return function(rt, variables)
    local scope = {}
    for name in pairs(functions) do
      scope["." .. name] = { kind = "builtin", name = name }
    end
    for i = 1, variables.n do
      scope["." .. tostring(variables.keys[i])] = variables.map[variables.keys[i]]
    end
    body(rt, scope)
  end
end

return interpreter
