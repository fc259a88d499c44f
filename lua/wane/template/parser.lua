--- parser.lua: parses a template: text, {{ expressions }} and {% statements %}.
--
-- Source: the Jinja 3.1 documentation, "List of Control Structures", with the extension loopcontrols (break,
-- continue) and Transformers' {% generation %}, which only marks text and here is a scope like any other.
-- A template is a list of nodes: data, output, if, for, set, set_block, macro, call_block, filter_block, with,
-- generation, break, continue. Unknown tags are refused by name; so are Jinja's block, extends, include, import
-- and from, which need other files, and autoescape, do and trans, which Transformers does not turn on.
local expression = require "wane.template.expression"

local parser = setmetatable({}, { __index = expression })
parser.__index = parser

local STATEMENTS = {}

-- Statements until a tag whose name is in `ends`, which is moved past; gives them and that name.
function parser:body(ends, opened)
  local out = {}
  self:enter()
  while true do
    local pos = self.pos
    if self.type == "data" then
      out[#out + 1] = self:node("data", pos, { text = self.value })
      self:advance()
    elseif self.type == "{{" then
      self:advance()
      out[#out + 1] = self:node("output", pos, { value = self:tuple() })
      self:expect "}}"
    elseif self.type == "{%" then
      self:advance()
      local name, at = self.value, self.pos
      if self.type ~= "name" then self:unexpected "the name of a tag" end
      self:advance()
      if ends[name] then
        self:leave()
        return out, name
      end
      local statement = STATEMENTS[name]
      if not statement then
        local ending = name:find "^end" or name == "else" or name == "elif"
        if ending then self:fail(("unexpected %s"):format(name), at) end
        self:fail(("unknown tag %q"):format(name), at, "unsupported")
      end
      out[#out + 1] = statement(self, at)
    else -- the end
      if not opened then
        self:leave()
        return out
      end
      self:fail(("%s has no end"):format(opened.what), opened.pos)
    end
  end
end

-- A body that ends with one tag, whose end is moved past too
local function enclosed(self, what, pos)
  local out = self:body({ ["end" .. what] = true }, { what = what, pos = pos })
  self:expect "%}"
  return out
end

-- A name that is set; the template may then call it.
local function target_name(self)
  local pos = self.pos
  local name = self:expect "name"
  if expression.RESERVED[name] then self:fail(("%s cannot be set"):format(name), pos) end
  self.bound[name] = true
  return name, pos
end

-- What is assigned to: a name, or a tuple of them, with parentheses or without
local function target(self)
  local pos, items, is_tuple = self.pos, {}, false
  repeat
    if self.type == "(" then
      self:advance()
      self:enter()
      items[#items + 1] = target(self)
      self:leave()
      self:expect ")"
    elseif self.type == "name" and not self:is_name "in" then
      local name, at = target_name(self)
      items[#items + 1] = self:node("name", at, { name = name })
    elseif not is_tuple then
      self:unexpected "a name"
    end
    local more = self:skip ","
    is_tuple = is_tuple or more
  until not more
  if not is_tuple then return items[1] end
  return self:node("tuple", pos, { items = items })
end

local function refuse_loop(self, node)
  if node.kind == "name" and node.name == "loop" then self:fail("loop is the name of the loop itself", node.pos) end
  for _, item in ipairs(node.items or {}) do
    refuse_loop(self, item)
  end
end

STATEMENTS["if"] = function(self, pos)
  local node = self:node("if", pos, { tests = {}, bodies = {} })
  local opened = { what = "if", pos = pos }
  local ends = { ["elif"] = true, ["else"] = true, ["endif"] = true }
  while true do
    node.tests[#node.tests + 1] = self:tuple { conditional = false }
    self:expect "%}"
    local body, ending = self:body(ends, opened)
    node.bodies[#node.bodies + 1] = body
    if ending == "else" then
      self:expect "%}"
      node.otherwise = enclosed(self, "if", pos)
      return node
    elseif ending == "endif" then
      self:expect "%}"
      return node
    end
  end
end

STATEMENTS["for"] = function(self, pos)
  local node = self:node("for", pos, { target = target(self) })
  refuse_loop(self, node.target)
  if not self:skip_name "in" then self:unexpected "in" end
  node.items = self:tuple { conditional = false, ends = "recursive" }
  if self:skip_name "if" then node.test = self:any() end
  node.recursive = self:skip_name "recursive"
  self:expect "%}"
  self.loops = (self.loops or 0) + 1
  local ending
  node.body, ending = self:body({ ["else"] = true, endfor = true }, { what = "for", pos = pos })
  self.loops = self.loops - 1
  self:expect "%}"
  if ending == "else" then node.otherwise = enclosed(self, "for", pos) end
  return node
end

local function jump(kind)
  return function(self, pos)
    if (self.loops or 0) == 0 then self:fail(kind .. " stands outside a loop", pos) end
    self:expect "%}"
    return self:node(kind, pos)
  end
end
STATEMENTS["break"], STATEMENTS["continue"] = jump "break", jump "continue"

-- A body that a macro runs: break and continue do not leave it.
local function apart(self, what, pos)
  local loops = self.loops
  self.loops = 0
  local body = enclosed(self, what, pos)
  self.loops = loops
  return body
end

STATEMENTS.set = function(self, pos)
  local node
  local name_pos = self.pos
  local to = target(self)
  if to.kind == "name" and self.type == "." then
    self:advance()
    to = self:node("attribute", name_pos, { object = to.name, name = self:expect "name" })
  end
  if self:skip "=" then
    node = self:node("set", pos, { target = to, value = self:tuple() })
    self:expect "%}"
    return node
  end
  if to.kind == "tuple" then self:unexpected "=" end
  node = self:node("set_block", pos, { target = to })
  -- filters after the target work on the captured text
  local levels
  node.value, levels = self:pipes(self:node("captured", pos))
  self:leave(levels)
  self:expect "%}"
  node.body = enclosed(self, "set", pos)
  return node
end

-- Parameters between parentheses: { names, defaults (by position) }
local function parameters(self)
  local out = { names = {}, defaults = {} }
  self:expect "("
  while self.type ~= ")" do
    local n = #out.names + 1
    if n > 1 then
      self:expect ","
      if self.type == ")" then break end
    end
    local pos
    out.names[n], pos = target_name(self)
    for i = 1, n - 1 do
      if out.names[i] == out.names[n] then self:fail(("the parameter %s is there twice"):format(out.names[n]), pos) end
    end
    if self:skip "=" then
      out.defaults[n] = self:any()
    elseif n > 1 and out.defaults[n - 1] then
      self:fail("a parameter without a default after one with", pos)
    end
  end
  self:advance()
  return out
end

-- Parses parameters and body of a macro into node; notes which special names it reads.
local function macro_body(self, node, what, pos)
  node.parameters = self.type == "(" and parameters(self) or { names = {}, defaults = {} }
  local used = {}
  self.used[#self.used + 1] = used
  if what == "call" then
    self.used[#self.used] = nil -- the call itself is read outside of its body
    local value = self:any()
    if value.kind ~= "call" then self:fail("call wants the call of a macro", value.pos) end
    node.value = value
    self.used[#self.used + 1] = used
  end
  self:expect "%}"
  node.body = apart(self, what, pos)
  self.used[#self.used] = nil
  node.uses = { varargs = used.varargs, kwargs = used.kwargs, caller = used.caller }
  return node
end

STATEMENTS.macro = function(self, pos)
  local node = self:node("macro", pos, { name = target_name(self) })
  if self.type ~= "(" then self:unexpected "(" end
  return macro_body(self, node, "macro", pos)
end

STATEMENTS.call = function(self, pos)
  return macro_body(self, self:node("call_block", pos, { name = "caller" }), "call", pos)
end

STATEMENTS.filter = function(self, pos)
  local node = self:node("filter_block", pos)
  local levels
  node.value, levels = self:pipes(self:filter(self:node("captured", pos)))
  self:leave(levels)
  self:expect "%}"
  node.body = apart(self, "filter", pos)
  return node
end

STATEMENTS.with = function(self, pos)
  local node = self:node("with", pos, { targets = {}, values = {} })
  while self.type ~= "%}" do
    if #node.targets > 0 then self:expect "," end
    local name, at = target_name(self)
    node.targets[#node.targets + 1] = self:node("name", at, { name = name })
    self:expect "="
    node.values[#node.values + 1] = self:any()
  end
  self:advance()
  node.body = enclosed(self, "with", pos)
  return node
end

STATEMENTS.generation = function(self, pos)
  self:expect "%}"
  return self:node("generation", pos, { body = apart(self, "generation", pos) })
end

--- Parses a whole template; raises an error object where it cannot.
-- @param template { name, source }
-- @return list of nodes; the set of the names it reads; whether it calls strftime_now
function parser.parse(template)
  local self = parser:new(template)
  local body = self:body({})
  self:check_calls()
  local asks_time = false
  for _, call in ipairs(self.called) do
    asks_time = asks_time or call.name == "strftime_now"
  end
  return body, self.reads, asks_time
end

return parser
