--- expression.lua: parses Jinja's expressions into a tree.
--
-- Source: the Jinja 3.1 documentation, "Expressions". From weak to strong: a if b else c; or; and; not;
-- comparisons (which chain), in, not in; + -; ~; * / // %; ** (to the left, as in Jinja, not as in Python);
-- unary - and +; then attributes, subscripts, calls, filters and tests, which bind tightest.
--
-- A node is { kind, pos, ... } with pos its byte in the source. Operators of one level are one flat node, so a
-- long sum is not a deep tree; what does nest counts against `depth`, so that neither this parser nor the
-- evaluator can run out of stack. Names of filters, tests, methods and functions are checked here: a template
-- that uses one that is not known never runs. A function that the template itself asks about with `is defined`
-- is let through, since that asks whether the host has it.
local errors = require "wane.template.errors"
local filters = require "wane.template.filters"
local functions = require "wane.template.functions"
local lexer = require "wane.template.lexer"
local methods = require "wane.template.methods"
local tests = require "wane.template.tests"

local expression = {}
expression.__index = expression

local DEPTH = 128   -- of nested expressions and blocks
local NODES = 65536 -- in one template

local METHODS = {} -- every method's name
for _, kind in ipairs { "str", "dict", "list", "loop", "cycler" } do
  for name in pairs(methods[kind]) do
    METHODS[name] = true
  end
end

local CONSTANTS = { ["true"] = true, True = true, ["false"] = false, False = false }
local RESERVED = {}
for word in ("and or not in is if else elif true false none True False None"):gmatch "%a+" do
  RESERVED[word] = true
end
expression.RESERVED = RESERVED

--- A parser at the first token. @param template { name, source }
function expression.new(class, template)
  local self = setmetatable({
    template = template, lexer = lexer.new(template), depth = 0, nodes = 0,
    bound = { loop = true, caller = true }, -- names that the template sets somewhere, and these two
    asked = {},                             -- names tested with `is defined`
    called = {},                            -- calls of plain names, to be checked at the end
    used = {},                              -- for each open macro: the names read in it
    reads = {},                             -- all names read
  }, class)
  self:advance()
  return self
end

function expression:advance()
  self.lexer:next()
  self.type, self.value, self.pos = self.lexer.type, self.lexer.value, self.lexer.pos
end

function expression:fail(why, pos, code) errors.at(self.template, pos or self.pos, code or "format", why) end

local function shown(self)
  if self.type == "eof" then return "the end of the template" end
  if self.type == "name" or self.type == "integer" or self.type == "float" then return tostring(self.value) end
  return self.type
end

function expression:unexpected(wanted)
  self:fail(("unexpected %s%s"):format(shown(self), wanted and ", expected " .. wanted or ""))
end

--- Whether the token is that name.
function expression:is_name(name) return self.type == "name" and self.value == name end

--- Moves past a token of that type and gives true, or gives false.
function expression:skip(kind)
  if self.type ~= kind then return false end
  self:advance()
  return true
end

function expression:skip_name(name)
  if not self:is_name(name) then return false end
  self:advance()
  return true
end

--- Moves past a token of that type; gives its value.
function expression:expect(kind)
  if self.type ~= kind then self:unexpected(kind == "name" and "a name" or kind) end
  local value = self.value
  self:advance()
  return value
end

function expression:node(kind, pos, node)
  self.nodes = self.nodes + 1
  if self.nodes > NODES then self:fail(("a template of more than %d parts"):format(NODES), pos, "unsupported") end
  node = node or {}
  node.kind, node.pos = kind, pos
  return node
end

function expression:enter()
  self.depth = self.depth + 1
  if self.depth > DEPTH then self:fail(("nested deeper than %d"):format(DEPTH), nil, "unsupported") end
end

function expression:leave(levels) self.depth = self.depth - (levels or 1) end

--- One expression, or several with commas between, which make a tuple.
-- @param options { conditional = false: no `a if b else c`; empty = true: "()"; ends = a name that ends it }
function expression:tuple(options)
  options = options or {}
  local pos, items, is_tuple = self.pos, {}, false
  local function at_end()
    return self.type == "}}" or self.type == "%}" or self.type == ")" or options.ends and self:is_name(options.ends)
  end
  while not at_end() do
    items[#items + 1] = options.conditional == false and self:disjunction() or self:any()
    if self.type ~= "," then break end
    is_tuple = true
    self:advance()
  end
  if not is_tuple then
    if #items == 1 then return items[1] end
    if not options.empty then self:unexpected "an expression" end
  end
  return self:node("tuple", pos, { items = items })
end

--- Any expression.
function expression:any()
  self:enter()
  local node, levels = self:disjunction(), 1
  while self:is_name "if" do
    local pos = self.pos
    self:advance()
    self:enter()
    levels = levels + 1
    local test = self:disjunction()
    local no = self:skip_name "else" and self:any() or nil
    node = self:node("conditional", pos, { test = test, yes = node, no = no })
  end
  self:leave(levels)
  return node
end

local function joined(kind, word, below)
  return function(self)
    local first = self[below](self)
    if not self:is_name(word) then return first end
    local node = self:node(kind, self.pos, { items = { first } })
    while self:skip_name(word) do
      node.items[#node.items + 1] = self[below](self)
    end
    return node
  end
end
expression.disjunction = joined("or", "or", "conjunction")
expression.conjunction = joined("and", "and", "negation")

function expression:negation()
  if not self:is_name "not" then return self:comparison() end
  local pos = self.pos
  self:advance()
  self:enter()
  local node = self:node("not", pos, { value = self:negation() })
  self:leave()
  return node
end

local COMPARISONS = { ["=="] = true, ["!="] = true, ["<"] = true, [">"] = true, ["<="] = true, [">="] = true }

function expression:comparison()
  local first = self:sum()
  local node
  while true do
    local pos, operator = self.pos, "in"
    if COMPARISONS[self.type] then
      operator = self.type
      self:advance()
    elseif self:skip_name "not" then
      if not self:skip_name "in" then self:unexpected "in" end
      operator = "not in"
    elseif not self:skip_name "in" then
      return node or first
    end
    node = node or self:node("compare", pos, { first = first, operators = {}, operands = {}, places = {} })
    local n = #node.operators + 1
    node.operators[n], node.operands[n], node.places[n] = operator, self:sum(), pos
  end
end

local function level(below, ...)
  local set = {}
  for _, operator in ipairs { ... } do
    set[operator] = true
  end
  return function(self)
    local first = self[below](self)
    if not set[self.type] then return first end
    local node = self:node("chain", self.pos, { first = first, operators = {}, operands = {}, places = {} })
    while set[self.type] do
      local n, pos = #node.operators + 1, self.pos
      node.operators[n] = self.type
      self:advance()
      node.operands[n], node.places[n] = self[below](self), pos
    end
    return node
  end
end
expression.sum = level("concatenation", "+", "-")
expression.product = level("power", "*", "/", "//", "%")
expression.power = level("unary", "**")

function expression:concatenation()
  local first = self:product()
  if self.type ~= "~" then return first end
  local node = self:node("concat", self.pos, { items = { first } })
  while self:skip "~" do
    node.items[#node.items + 1] = self:product()
  end
  return node
end

function expression:unary(is_operand)
  local node, levels
  if self.type == "-" or self.type == "+" then
    local sign, pos = self.type, self.pos
    self:advance()
    self:enter()
    node = self:node("sign", pos, { sign = sign, value = self:unary(true) })
    self:leave()
  else
    node = self:primary()
  end
  node, levels = self:postfix(node)
  if not is_operand then
    local more
    node, more = self:pipes(node)
    levels = levels + more
  end
  self:leave(levels)
  return node
end

function expression:primary()
  local pos, kind, value = self.pos, self.type, self.value
  if kind == "name" then
    self:advance()
    if CONSTANTS[value] ~= nil then return self:node("constant", pos, { value = CONSTANTS[value] }) end
    if value == "none" or value == "None" then return self:node("none", pos) end
    if RESERVED[value] then self:fail(("unexpected %s, expected an expression"):format(value), pos) end
    self.reads[value] = true
    for _, names in ipairs(self.used) do
      names[value] = true
    end
    return self:node("name", pos, { name = value })
  elseif kind == "string" then
    local pieces = {}
    while self.type == "string" do
      pieces[#pieces + 1] = self.value
      self:advance()
    end
    return self:node("constant", pos, { value = table.concat(pieces) })
  elseif kind == "integer" or kind == "float" then
    self:advance()
    return self:node("constant", pos, { value = value })
  elseif kind == "(" then
    self:advance()
    self:enter()
    local node = self:tuple { empty = true }
    self:leave()
    self:expect ")"
    return node
  elseif kind == "[" then
    return self:list()
  elseif kind == "{" then
    return self:dict()
  end
  self:unexpected "an expression"
end

function expression:list()
  local node = self:node("list", self.pos, { items = {} })
  self:advance()
  while self.type ~= "]" do
    if #node.items > 0 then
      self:expect ","
      if self.type == "]" then break end
    end
    node.items[#node.items + 1] = self:any()
  end
  self:advance()
  return node
end

function expression:dict()
  local node = self:node("dict", self.pos, { keys = {}, items = {} })
  self:advance()
  while self.type ~= "}" do
    local n = #node.keys + 1
    if n > 1 then
      self:expect ","
      if self.type == "}" then break end
    end
    node.keys[n] = self:any()
    self:expect ":"
    node.items[n] = self:any()
  end
  self:advance()
  return node
end

-- One more level of a chain of attributes, calls or filters; gives the count of them.
local function deeper(self, levels)
  self:enter()
  return levels + 1
end

function expression:postfix(node)
  local levels = 0
  while true do
    local pos = self.pos
    if self.type == "." then
      self:advance()
      if self.type == "integer" then
        local index = self:node("constant", self.pos, { value = self.value })
        node = self:node("item", pos, { object = node, index = index })
        self:advance()
      else
        local at = self.pos
        node = self:node("attribute", at, { object = node, name = self:expect "name" })
      end
    elseif self.type == "[" then
      node = self:subscript(node)
    elseif self.type == "(" then
      node = self:call(node)
    else
      return node, levels
    end
    levels = deeper(self, levels)
  end
end

function expression:subscript(object)
  local pos = self.pos
  self:advance()
  local parts, n, slice = {}, 0, false -- start, stop, step
  while self.type ~= "]" do
    if self:skip ":" then
      slice, n = true, n + 1
      if n > 2 then self:unexpected "]" end
    elseif parts[n] or self.type == "," then
      self:fail("subscripts with commas are not supported", nil, "unsupported")
    else
      parts[n] = self:any()
    end
  end
  self:advance()
  if slice then
    return self:node("slice", pos, { object = object, start = parts[0], stop = parts[1], step = parts[2] })
  end
  if not parts[0] then self:fail("this subscript is empty", pos) end
  return self:node("item", pos, { object = object, index = parts[0] })
end

--- The arguments between parentheses: { items, names, values, star, stars }
function expression:arguments()
  local out = { items = {}, names = {}, values = {} }
  self:expect "("
  local first = true
  while self.type ~= ")" do
    if not first then
      self:expect ","
      if self.type == ")" then break end
    end
    first = false
    local pos = self.pos
    if self.type == "*" or self.type == "**" then
      local field = self.type == "*" and "star" or "stars"
      self:advance()
      if out[field] or out.stars then self:fail("only one * and one ** argument", pos) end
      out[field] = self:any()
    else
      local node = self:any()
      if self.type == "=" and node.kind == "name" then
        self:advance()
        if out.stars then self:fail("arguments after **", pos) end
        for _, name in ipairs(out.names) do
          if name == node.name then self:fail(("the argument %s is given twice"):format(name), pos) end
        end
        out.names[#out.names + 1] = node.name
        out.values[#out.values + 1] = self:any()
      else
        if #out.names > 0 or out.star or out.stars then self:fail("an argument without a name after others", pos) end
        out.items[#out.items + 1] = node
      end
    end
  end
  self:advance()
  return out
end

function expression:call(target)
  local pos = self.pos
  if target.kind == "attribute" then
    pos = target.pos
    if methods.forbidden[target.name] then
      self:fail(("%s would change a value, which templates may not"):format(target.name), pos, "unsupported")
    elseif not METHODS[target.name] then
      self:fail(("unknown method %q"):format(target.name), pos, "unsupported")
    end
  elseif target.kind == "name" then
    pos = target.pos
    self.called[#self.called + 1] = target
  end
  return self:node("call", pos, { target = target, arguments = self:arguments() })
end

-- Names given as text to map, select and their like
local function check_named(self, filter, arguments)
  local at = (filter == "selectattr" or filter == "rejectattr") and 2 or 1
  local first = arguments.items[at]
  if not first or first.kind ~= "constant" or type(first.value) ~= "string" then return end
  if filter == "map" then
    if not filters[first.value] then
      self:fail(("unknown filter %q"):format(errors.escape(first.value)), first.pos, "unsupported")
    end
  elseif filter == "select" or filter == "reject" or at == 2 then
    if type(tests[first.value]) ~= "table" then
      self:fail(("unknown test %q"):format(errors.escape(first.value)), first.pos, "unsupported")
    end
  end
end

--- The name of a filter or test, which may have dots.
local function dotted(self)
  local pos, name = self.pos, self:expect "name"
  while self.type == "." do
    self:advance()
    name = name .. "." .. self:expect "name"
  end
  return name, pos
end

-- The names given to a filter, test or function must be its own.
function expression:check_names(label, entry, arguments, pos)
  if entry.any then return end
  for _, name in ipairs(arguments.names) do
    local known = false
    for i = 1, #entry do
      known = known or entry[i] == name
    end
    if not known then self:fail(("%s has no argument %q"):format(label, name), pos, "unsupported") end
  end
end

--- One filter after its |: its name and arguments.
function expression:filter(value)
  local name, pos = dotted(self)
  if not filters[name] then self:fail(("unknown filter %q"):format(name), pos, "unsupported") end
  local arguments = self.type == "(" and self:arguments() or nil
  if arguments then
    check_named(self, name, arguments)
    self:check_names("filter " .. name, filters[name], arguments, pos)
  end
  return self:node("filter", pos, { value = value, name = name, arguments = arguments })
end

local OPERANDS = { name = true, string = true, integer = true, float = true, ["("] = true, ["["] = true, ["{"] = true }
local AFTER_TEST = { ["else"] = true, ["or"] = true, ["and"] = true, ["if"] = true, ["in"] = true, ["not"] = true }

function expression:test(value)
  local negated = self:skip_name "not"
  local name, pos = dotted(self)
  if type(tests[name]) ~= "table" then self:fail(("unknown test %q"):format(name), pos, "unsupported") end
  if (name == "defined" or name == "undefined" or name == "callable") and value.kind == "name" then
    self.asked[value.name] = true
  end
  local arguments
  if self.type == "(" then
    arguments = self:arguments()
    self:check_names("test " .. name, tests[name], arguments, pos)
  elseif self:is_name "is" then
    self:fail "tests do not chain"
  elseif OPERANDS[self.type] and not (self.type == "name" and AFTER_TEST[self.value]) then
    local operand, levels = self:postfix(self:primary())
    self:leave(levels)
    arguments = { items = { operand }, names = {}, values = {} }
  end
  return self:node("test", pos, { value = value, name = name, arguments = arguments, negated = negated })
end

function expression:pipes(node)
  local levels = 0
  while true do
    if self.type == "|" then
      self:advance()
      node = self:filter(node)
    elseif self:is_name "is" then
      self:advance()
      node = self:test(node)
    elseif self.type == "(" then
      node = self:call(node)
    else
      return node, levels
    end
    levels = deeper(self, levels)
  end
end

--- Refuses calls of functions that neither the template nor this engine has.
function expression:check_calls()
  for _, target in ipairs(self.called) do
    local name = target.name
    if not (functions[name] or self.bound[name] or self.asked[name]) then
      self:fail(("unknown function %q"):format(name), target.pos, "unsupported")
    end
  end
end

return expression
