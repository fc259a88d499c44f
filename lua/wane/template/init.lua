--- wane.template: chat templates, the part of Jinja that they are written in.
--
--   local template = require "wane.template"
--   local t = template.compile(source, { name = "chat_template.jinja" })
--   local text = t:render({ messages = messages, add_generation_prompt = true }, { clock = "2026-01-31" })
--
-- Templates are not trusted: they are interpreted, reach nothing but the values they are given (copied; see
-- values.lua for how Lua tables become lists and dicts), cannot change them, and every limit is an error with
-- a place: 256 KiB of source, nesting of 128, macros of 32, ten million steps (rendering.lua), range of a
-- million, 16 MiB of output. What this engine does not know (a tag, filter, test, method, function) is refused
-- when the template is compiled. The files, in the order a template goes through them: lexer, expression,
-- parser; evaluator and interpreter with values, operators, methods, filters, sequences, tests, functions.
local clock = require "wane.template.clock"
local errors = require "wane.template.errors"
local interpreter = require "wane.template.interpreter"
local lexer = require "wane.template.lexer"
local parser = require "wane.template.parser"
local rendering = require "wane.template.rendering"
local values = require "wane.template.values"

local template = {
  null = values.null, -- template.null(v): v means none in templates; gives v
  none = values.none, -- a value that always means none
  clock = clock,
  source_limit = 256 * 1024,
}

local compiled = {}
compiled.__index = compiled

--- Compiles a template; raises an error object ("format", "unsupported") with line and column.
-- @param source the text, UTF-8
-- @param options { name = what messages call it }
-- @return a template: t:render(context, options), t.name, t.reads (the set of names it reads), t.asks_time
-- (whether it calls strftime_now)
function template.compile(source, options)
  if type(source) ~= "string" then error("template.compile wants the source as a string", 2) end
  local self = { name = options and options.name or "template", source = "" }
  if #source > template.source_limit then
    local why = ("a template of %d bytes; the limit is %d"):format(#source, template.source_limit)
    errors.at(self, 1, "unsupported", why)
  end
  self.source = lexer.normalize(source)
  if not utf8.len(self.source) then
    local _, bad = utf8.len(self.source)
    errors.at(self, bad, "format", "the template is not UTF-8")
  end
  local nodes
  nodes, self.reads, self.asks_time = parser.parse(self)
  self.run = interpreter.compile(nodes)
  return setmetatable(self, compiled)
end

--- Renders with the variables of `context`, a table by name; raises an error object.
-- @param options { clock = ... } as clock.lua reads it
-- @return the text
function compiled:render(context, options)
  local time = clock.read(options and options.clock)
  local variables = values.dict()
  for name, value in pairs(context or {}) do
    if type(name) ~= "string" then error("the variables of a template have names", 2) end
    values.put(variables, name, values.import(value))
  end
  local rt = rendering.new(self, time)
  self.run(rt, variables)
  return rt:text()
end

return template
