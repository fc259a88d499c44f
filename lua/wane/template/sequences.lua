--- sequences.lua: the filters that work on the items of something.
--
-- Source: the Jinja 3.1 documentation, "List of Builtin Filters". As in Jinja, map, select, reject, unique,
-- reverse, items, batch and slice give a generator: true, without a length, and empty after it was gone through
-- once. Departure: they compute all items at once.
local arguments = require "wane.template.arguments"
local operators = require "wane.template.operators"
local methods = require "wane.template.methods"
local tests = require "wane.template.tests"
local unicode = require "wane.template.unicode"
local values = require "wane.template.values"

local sequences = {}

local kind_of, whole_of, flag = values.kind, arguments.whole, arguments.flag

local filters = {}
local apply -- a filter by name, once sequences.add knows them all

filters.length = {
  call = function(rt, v)
    local n = values.length(rt, v)
    if not n then rt:fail(("filter length: %s has no length"):format(values.type_name(v))) end
    return n
  end,
}
filters.count = filters.length

filters.list = {
  call = function(rt, v)
    local items, n = values.items(rt, v)
    rt:charge(16)
    return values.list(items, n)
  end,
}

filters.first = {
  call = function(rt, v)
    local take = values.iterate(rt, v)
    if not take then rt:fail(("filter first: %s is not iterable"):format(values.type_name(v))) end
    local item = take()
    if item == nil then return values.undefined "there is no first item, the sequence was empty" end
    return item
  end,
}

filters.last = {
  call = function(rt, v)
    local kind = kind_of(v)
    if kind == "generator" or not values.length(rt, v) then
      rt:fail(("filter last: %s cannot be reversed"):format(values.type_name(v)))
    end
    local items, n = values.items(rt, v)
    if n == 0 then return values.undefined "there is no last item, the sequence was empty" end
    return items[n]
  end,
}

filters.reverse = {
  call = function(rt, v)
    local items, n = values.items(rt, v)
    for i = 1, n // 2 do
      items[i], items[n + 1 - i] = items[n + 1 - i], items[i]
    end
    if kind_of(v) == "str" then return rt:join(items, "", n) end
    if kind_of(v) == "generator" then return values.list(items, n) end
    return values.generator(rt, "reversed sequence", items, n)
  end,
}

filters.items = {
  call = function(rt, v)
    if kind_of(v) == "undefined" then return values.generator(rt, "items", {}, 0) end
    if kind_of(v) ~= "dict" then rt:fail(("filter items wants a dict, not %s"):format(values.type_name(v))) end
    local view = methods.dict.items.call(rt, v)
    return values.generator(rt, "items", view, view.n)
  end,
}

-- item.a.b.0 for "a.b.0"; a whole number is an index
local function attribute_of(rt, item, path)
  if math.type(path) == "integer" then return operators.item(rt, item, path) end
  for part in arguments.text(rt, "attribute", path):gmatch "[^.]+" do
    rt:charge(2)
    item = operators.item(rt, item, part:find "^%d+$" and math.tointeger(tonumber(part)) or part)
  end
  return item
end

local function folded(v, case_sensitive)
  if type(v) == "string" and not flag(case_sensitive, false) then return unicode.lower(v) end
  return v
end

-- What each item is sorted or told apart by: the list of keys
local function keys_of(rt, items, n, attribute, case_sensitive)
  local keys = {}
  for i = 1, n do
    local key = items[i]
    if attribute ~= nil and attribute ~= values.none then key = attribute_of(rt, key, attribute) end
    if type(key) == "string" then rt:charge(#key // 4) end
    keys[i] = folded(key, case_sensitive)
  end
  rt:charge(8 * n)
  return keys
end

local function sort_by(rt, items, n, keys, reverse)
  local order = {}
  for i = 1, n do
    order[i] = i
  end
  rt:sort(order, n, function(a, b)
    if reverse then a, b = b, a end
    return values.less(rt, keys[a], keys[b])
  end)
  local out = {}
  for i = 1, n do
    out[i] = items[order[i]]
  end
  rt:charge(16 + 16 * n)
  return values.list(out, n)
end

filters.sort = {
  "reverse", "case_sensitive", "attribute",
  call = function(rt, v, reverse, case_sensitive, attribute)
    local items, n = values.items(rt, v)
    if type(attribute) == "string" and attribute:find(",", 1, true) then
      local parts = {}
      for part in attribute:gmatch "[^,]+" do
        parts[#parts + 1] = keys_of(rt, items, n, part, case_sensitive)
      end
      local keys = {}
      for i = 1, n do
        local key = {}
        for j = 1, #parts do
          key[j] = parts[j][i]
        end
        keys[i] = values.list(key, #parts, "tuple")
      end
      rt:charge(16 * n)
      return sort_by(rt, items, n, keys, flag(reverse, false))
    end
    return sort_by(rt, items, n, keys_of(rt, items, n, attribute, case_sensitive), flag(reverse, false))
  end,
}

filters.dictsort = {
  "case_sensitive", "by", "reverse",
  call = function(rt, v, case_sensitive, by, reverse)
    if kind_of(v) ~= "dict" then rt:fail(("filter dictsort wants a dict, not %s"):format(values.type_name(v))) end
    local at = (by == nil or by == "key") and 0 or by == "value" and 1
    if not at then rt:fail "filter dictsort: by must be key or value" end
    local view = methods.dict.items.call(rt, v)
    return sort_by(rt, view, view.n, keys_of(rt, view, view.n, at, case_sensitive), flag(reverse, false))
  end,
}

-- Positions of the items that are the first of their key
local function distinct(rt, keys, n)
  local seen, others, out = {}, {}, {}
  for i = 1, n do
    local key, known = keys[i], false
    local kind = kind_of(key)
    if kind == "list" or kind == "dict" then rt:fail(("filter unique: a %s cannot be told apart"):format(kind)) end
    if type(key) == "string" or values.number_of(key) then
      local inner = values.number_of(key) or key
      known = seen[inner] ~= nil
      if inner == inner then seen[inner] = true end
    else
      for _, other in ipairs(others) do
        rt:charge(1)
        known = known or values.equal(rt, key, other)
      end
      if not known then others[#others + 1] = key end
    end
    if not known then out[#out + 1] = i end
    rt:charge(16)
  end
  return out
end

filters.unique = {
  "case_sensitive", "attribute",
  call = function(rt, v, case_sensitive, attribute)
    local items, n = values.items(rt, v)
    local out = {}
    for k, i in ipairs(distinct(rt, keys_of(rt, items, n, attribute, case_sensitive), n)) do
      out[k] = items[i]
    end
    return values.generator(rt, "unique", out, #out)
  end,
}

for name, better in pairs {
  min = function(rt, a, b) return values.less(rt, a, b) end,
  max = function(rt, a, b) return values.less(rt, b, a) end,
} do
  filters[name] = {
    "case_sensitive", "attribute",
    call = function(rt, v, case_sensitive, attribute)
      local items, n = values.items(rt, v)
      if n == 0 then return values.undefined(("there is no %s, the sequence was empty"):format(name)) end
      local keys, best = keys_of(rt, items, n, attribute, case_sensitive), 1
      for i = 2, n do
        if better(rt, keys[i], keys[best]) then best = i end
      end
      return items[best]
    end,
  }
end

filters.groupby = {
  "attribute", "default", "case_sensitive", least = 1,
  call = function(rt, v, attribute, default, case_sensitive)
    local items, n = values.items(rt, v)
    local shown = {}
    for i = 1, n do
      shown[i] = attribute_of(rt, items[i], attribute)
      if default ~= nil and kind_of(shown[i]) == "undefined" then shown[i] = default end
    end
    local keys = keys_of(rt, shown, n, nil, case_sensitive)
    local order = {}
    for i = 1, n do
      order[i] = i
    end
    order = sort_by(rt, order, n, keys, false)
    local out = {}
    for k = 1, n do
      local i = order[k]
      local group = out[#out]
      if not group or not values.equal(rt, keys[i], group.key) then
        group = values.list({ shown[i], values.list({}, 0) }, 2, "tuple")
        group.key, group.names = keys[i], { grouper = 1, list = 2 }
        out[#out + 1] = group
        rt:charge(64)
      end
      group[2].n = group[2].n + 1
      group[2][group[2].n] = items[i]
    end
    return values.list(out, #out)
  end,
}

filters.join = {
  "d", "attribute",
  call = function(rt, v, d, attribute)
    local items, n = values.items(rt, v)
    for i = 1, n do
      local item = items[i]
      if attribute ~= nil and attribute ~= values.none then item = attribute_of(rt, item, attribute) end
      items[i] = values.text(rt, item)
    end
    return rt:join(items, d == nil and "" or values.text(rt, d), n)
  end,
}

filters.sum = {
  "attribute", "start",
  call = function(rt, v, attribute, start)
    local items, n = values.items(rt, v)
    local sum = start == nil and 0 or start
    for i = 1, n do
      local item = items[i]
      if attribute ~= nil and attribute ~= values.none then item = attribute_of(rt, item, attribute) end
      sum = operators.arithmetic(rt, "+", sum, item)
    end
    return sum
  end,
}

filters.batch = {
  "linecount", "fill_with", least = 1,
  call = function(rt, v, linecount, fill_with)
    local items, n = values.items(rt, v)
    local size = whole_of(rt, "filter batch", linecount)
    if size < 1 then rt:fail "filter batch: a batch has at least one item" end
    local out = {}
    for start = 1, n, size do
      local batch = table.move(items, start, math.min(start + size - 1, n), 1, {})
      local count = math.min(size, n - start + 1)
      if fill_with ~= nil and fill_with ~= values.none then
        rt:charge_product(size - count, 8, 1)
        while count < size do
          count = count + 1
          batch[count] = fill_with
        end
      end
      rt:charge(40 + 8 * count)
      out[#out + 1] = values.list(batch, count)
    end
    return values.generator(rt, "batch", out, #out)
  end,
}

filters.slice = {
  "slices", "fill_with", least = 1,
  call = function(rt, v, slices, fill_with)
    local items, n = values.items(rt, v)
    local count = whole_of(rt, "filter slice", slices)
    if count < 1 then rt:fail "filter slice: at least one slice" end
    rt:charge_product(count, 40, 1)
    local out, at = {}, 1
    for i = 0, count - 1 do
      local size = n // count + (i < n % count and 1 or 0)
      local piece = table.move(items, at, at + size - 1, 1, {})
      at = at + size
      if fill_with ~= nil and fill_with ~= values.none and n % count > 0 and i >= n % count then
        size = size + 1
        piece[size] = fill_with
      end
      rt:charge(8 * size)
      out[i + 1] = values.list(piece, size)
    end
    return values.generator(rt, "slice", out, count)
  end,
}

filters.attr = {
  "name", least = 1,
  call = function(rt, v, name)
    if kind_of(v) == "dict" and not methods.dict[name] then
      return values.undefined(("'dict object' has no attribute '%s'"):format(values.text(rt, name)))
    end
    return operators.attribute(rt, v, arguments.text(rt, "filter attr", name))
  end,
}

-- The arguments after the first k
local function after(args, k)
  local n = math.max(args.n - k, 0)
  return { n = n, table.unpack(args, k + 1, k + n) }
end

-- The items of v; none where v is none, 0 or false, as map and select have it
local function items_if_true(rt, v)
  if not values.truth(v) then return {}, 0 end
  return values.items(rt, v)
end

filters.map = {
  any = true,
  call = function(rt, v, args, named)
    local items, n = items_if_true(rt, v)
    local attribute = named and args.n == 0 and values.get(named, "attribute")
    if attribute then
      local default = values.get(named, "default")
      for i = 1, n do
        local item = attribute_of(rt, items[i], attribute)
        if default ~= nil and kind_of(item) == "undefined" then item = default end
        items[i] = item
      end
    else
      local name = args[1]
      if type(name) ~= "string" then rt:fail "filter map wants the name of a filter, or attribute=" end
      local rest = after(args, 1)
      for i = 1, n do
        items[i] = apply(rt, name, items[i], rest, named)
        rt:charge(4)
      end
    end
    return values.generator(rt, "map", items, n)
  end,
}

-- select and its three relatives. @param by_attribute the first argument names what is tested
local function selection(name, by_attribute, wanted)
  return {
    any = true,
    call = function(rt, v, args, named)
      local used = by_attribute and 1 or 0
      if args.n < used then rt:fail(("filter %s wants an attribute"):format(name)) end
      local test = args[used + 1]
      if test ~= nil and type(test) ~= "string" then rt:fail(("filter %s wants the name of a test"):format(name)) end
      local rest = after(args, used + 1)
      local items, n = items_if_true(rt, v)
      local out, count = {}, 0
      for i = 1, n do
        local tested = items[i]
        if by_attribute then tested = attribute_of(rt, tested, args[1]) end
        local passes
        if test then passes = tests.check(rt, test, tested, rest, named) else passes = values.truth(tested) end
        if passes == wanted then
          count = count + 1
          out[count] = items[i]
        end
        rt:charge(12)
      end
      return values.generator(rt, name, out, count)
    end,
  }
end
filters.select, filters.reject = selection("select", false, true), selection("reject", false, false)
filters.selectattr, filters.rejectattr = selection("selectattr", true, true), selection("rejectattr", true, false)

--- Puts these filters among the others.
function sequences.add(all)
  for name, entry in pairs(filters) do
    all[name] = entry
  end
  function apply(rt, name, v, args, named)
    local entry = all[name]
    if not entry then rt:fail(("unknown filter %q"):format(name), "unsupported") end
    return arguments.call(rt, "filter " .. name, entry, v, args, named)
  end
end

return sequences
