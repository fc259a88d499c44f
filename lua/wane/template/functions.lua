--- functions.lua: the functions every template may call, and the objects that they make.
--
-- Source: the Jinja 3.1 documentation, "List of Global Functions"; raise_exception and strftime_now are
-- Transformers' (apply_chat_template). Departure: lipsum is unknown. Entries are as arguments.lua has them.
local clock = require "wane.template.clock"
local errors = require "wane.template.errors"
local loops = require "wane.template.loops"
local methods = require "wane.template.methods"
local values = require "wane.template.values"

local functions = {}

functions.range = {
  "start", "stop", "step", least = 1,
  call = function(rt, _, start, stop, step)
    if stop == nil then start, stop = 0, start end
    step = step == nil and 1 or step
    for _, v in ipairs { start, stop, step } do
      if math.type(values.number_of(v)) ~= "integer" then
        if values.kind(v) == "undefined" then rt:fail(v.why) end
        rt:fail(("range wants whole numbers, not %s"):format(values.type_name(v)))
      end
    end
    start, stop, step = values.number_of(start), values.number_of(stop), values.number_of(step)
    if step == 0 then rt:fail "range: a step of 0" end
    local most = rt.limits.range
    local n = 0
    if step > 0 and start < stop or step < 0 and start > stop then
      n = math.ceil((1.0 * stop - start) / step)
    end
    if n > most then rt:fail(("range: more than %d numbers"):format(most), "unsupported") end
    return { kind = "range", start = start, step = step, n = math.tointeger(n), stop = stop }
  end,
}

local function build_dict(rt, label, args, named)
  if args.n > 1 then rt:fail(("%s takes at most one argument without a name"):format(label)) end
  local d = values.dict()
  local first = args[1]
  if first ~= nil and values.kind(first) == "dict" then
    for i = 1, first.n do
      values.put(d, first.keys[i], values.get(first, first.keys[i]))
    end
  elseif first ~= nil then
    local pairs_of, n = values.items(rt, first)
    for i = 1, n do
      local pair, size = values.items(rt, pairs_of[i])
      if size ~= 2 then rt:fail(("%s wants pairs"):format(label)) end
      if not values.put(d, pair[1], pair[2]) then rt:fail(("%s: a key that cannot be one"):format(label)) end
    end
  end
  for i = 1, named and named.n or 0 do
    values.put(d, named.keys[i], named.map[named.keys[i]])
  end
  rt:charge(64 + 32 * d.n)
  return d
end

functions.dict = { any = true, call = function(rt, _, args, named) return build_dict(rt, "dict", args, named) end }

functions.namespace = {
  any = true,
  call = function(rt, _, args, named)
    return { kind = "namespace", attributes = build_dict(rt, "namespace", args, named) }
  end,
}

functions.raise_exception = {
  "message", least = 1,
  call = function(rt, _, message)
    local text = values.text(rt, message)
    rt:fail("the template refuses: " .. errors.escape(text, 400), "format", { raised = text })
  end,
}

functions.strftime_now = {
  "format", least = 1,
  call = function(rt, _, format)
    if type(format) ~= "string" then
      rt:fail(("strftime_now wants a str, not %s"):format(values.type_name(format)))
    end
    rt:charge(16 * #format)
    local text, unknown = clock.strftime(rt.clock, format)
    if not text then rt:fail(("strftime_now: %s is not supported"):format(unknown), "unsupported") end
    return rt:made(text)
  end,
}

functions.cycler = {
  any = true,
  call = function(rt, _, args)
    if args.n == 0 then rt:fail "cycler wants at least one argument" end
    local out = table.move(args, 1, args.n, 1, {})
    out.at = 1
    return values.list(out, args.n, "cycler")
  end,
}

functions.joiner = {
  "sep",
  call = function(_, _, sep) return { kind = "joiner", sep = sep == nil and ", " or sep, used = false } end,
}

methods.loop = loops.methods
methods.cycler = {
  next = {
    call = function(_, cycler)
      local item = cycler[cycler.at]
      cycler.at = cycler.at % cycler.n + 1
      return item
    end,
  },
  reset = {
    call = function(_, cycler)
      cycler.at = 1
      return values.none
    end,
  },
}

return functions
