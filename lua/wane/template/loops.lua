--- loops.lua: the `loop` object of a for loop.
--
-- Items are taken one by one, as Jinja does: loop.last and loop.nextitem look one item ahead, loop.length
-- and what needs it takes all that are left. A loop: { kind = "loop", take, at (1-based), depth, before,
-- item, ahead (taken but not yet given), rest (queue with `first` and `n`) }.
local values = require "wane.template.values"

local loops = {}

local function take_one(loop)
  local rest = loop.rest
  if not rest then return loop.take() end
  if rest.first > rest.n then return nil end
  rest.first = rest.first + 1
  return rest[rest.first - 1]
end

--- @param take gives the next item, nil at the end
function loops.new(rt, take, depth) return { kind = "loop", rt = rt, take = take, at = 0, depth = depth } end

--- Moves on; gives the item or nil.
function loops.next(loop)
  local item = loop.ahead
  loop.ahead = nil
  if item == nil then item = take_one(loop) end
  if item == nil then return nil end
  loop.before, loop.item, loop.at = loop.item, item, loop.at + 1
  return item
end

--- The item after the current one, or nil.
local function peek(loop)
  if loop.ahead == nil then loop.ahead = take_one(loop) end
  return loop.ahead
end

local function length(loop)
  if not loop.rest then
    local rest = { first = 1, n = 0 }
    for item in loop.take do
      rest.n = rest.n + 1
      rest[rest.n] = item
      loop.rt:charge(8)
    end
    loop.rest = rest
  end
  return loop.rest.n - loop.rest.first + 1 + loop.at + (loop.ahead ~= nil and 1 or 0)
end

--- loop.NAME
loops.attributes = {
  index = function(loop) return loop.at end,
  index0 = function(loop) return loop.at - 1 end,
  first = function(loop) return loop.at == 1 end,
  last = function(loop) return peek(loop) == nil end,
  length = length,
  revindex = function(loop) return length(loop) - loop.at + 1 end,
  revindex0 = function(loop) return length(loop) - loop.at end,
  depth = function(loop) return loop.depth end,
  depth0 = function(loop) return loop.depth - 1 end,
  previtem = function(loop)
    if loop.before == nil then return values.undefined "there is no previous item" end
    return loop.before
  end,
  nextitem = function(loop)
    local item = peek(loop)
    if item == nil then return values.undefined "there is no next item" end
    return item
  end,
}

--- loop.NAME(...)
loops.methods = {
  cycle = {
    any = true,
    call = function(rt, loop, args)
      if args.n == 0 then rt:fail "loop.cycle wants at least one argument" end
      return args[(loop.at - 1) % args.n + 1]
    end,
  },
  changed = {
    any = true,
    call = function(rt, loop, args)
      local now = values.list(args, args.n, "tuple")
      local same = loop.last_seen ~= nil and values.equal(rt, loop.last_seen, now)
      loop.last_seen = now
      return not same
    end,
  },
}

return loops
