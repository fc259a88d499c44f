--- arguments.lua: what a call gives against what a function wants.
--
-- Filters, tests, methods and functions are entries of a table by name:
--   { "width", "first", least = 1, call = function(rt, value, width, first) ... end }
-- The positions are the parameters' names, of which `least` must be given (0 where absent); a parameter that
-- is not given arrives as nil. With `any = true` the call gets (rt, value, args, named) as they are: args is
-- { [1..n], n }, named a dict or nil.
local values = require "wane.template.values"

local arguments = {}

--- Calls an entry of a table. @param label how messages name it: "filter join", "method split"
function arguments.call(rt, label, entry, value, args, named)
  if entry.any then return entry.call(rt, value, args, named) end
  local most = #entry
  local n = args and args.n or 0
  if n > most then
    rt:fail(("%s takes at most %d argument%s, %d given"):format(label, most, most == 1 and "" or "s", n))
  end
  if not named and n >= (entry.least or 0) then
    if n == 0 then return entry.call(rt, value) end
    return entry.call(rt, value, args[1], args[2], args[3], args[4], args[5])
  end
  local bound = table.move(args or {}, 1, n, 1, {})
  for i = 1, named and named.n or 0 do
    local name, position = named.keys[i], nil
    for at = 1, most do
      if entry[at] == name then position = at end
    end
    if not position then rt:fail(("%s has no argument %q"):format(label, tostring(name)), "unsupported") end
    if position <= n then rt:fail(("%s is given the argument %q twice"):format(label, name)) end
    bound[position] = named.map[name]
  end
  for i = 1, entry.least or 0 do
    if bound[i] == nil then rt:fail(("%s wants the argument %q"):format(label, entry[i])) end
  end
  return entry.call(rt, value, bound[1], bound[2], bound[3], bound[4], bound[5])
end

--- v itself unless it is undefined, which raises.
function arguments.defined(rt, v)
  if values.kind(v) == "undefined" then rt:fail(v.why) end
  return v
end

--- v itself if it is text; raises otherwise.
function arguments.text(rt, label, v)
  if type(v) == "string" then return v end
  arguments.defined(rt, v)
  rt:fail(("%s wants a str, not %s"):format(label, values.type_name(v)))
end

--- v as a whole number (True is 1), `otherwise` where it is nil or none; raises for all else.
function arguments.whole(rt, label, v, otherwise)
  if v == nil or (v == values.none and otherwise ~= nil) then return otherwise end
  local number = values.number_of(v)
  if math.type(number) == "integer" then return number end
  arguments.defined(rt, v)
  rt:fail(("%s wants an int, not %s"):format(label, values.type_name(v)))
end

--- Truth of an optional argument.
function arguments.flag(v, otherwise)
  if v == nil then return otherwise end
  return values.truth(v)
end

return arguments
