-- Chat templates: the same text as Jinja, every failure with its place, every attack stopped.
assert(_VERSION == "Lua 5.4", _VERSION)
local json = require "wane.json"
local rendering = require "wane.template.rendering"
local template = require "wane.template"

template.null(json.null)

local function load_json(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return json.decode(text)
end

local reference = load_json "tests/reference/template_cases.json"

local function render(source, variables, options)
  return template.compile(source, { name = "t.jinja" }):render(variables, options)
end

--- The error object that rendering raises; fails where there is none, or a plain string.
local function failure(source, variables, options)
  local ok, e = pcall(render, source, variables, options)
  assert.is_false(ok, "renders: " .. source:sub(1, 200))
  assert.equal("table", type(e), tostring(e))
  return e
end

describe("a template", function()
  local groups, by_name = {}, {}
  for _, case in ipairs(reference.cases) do
    if not by_name[case.group] then
      by_name[case.group] = {}
      groups[#groups + 1] = case.group
    end
    table.insert(by_name[case.group], case)
  end
  assert(#reference.cases > 1400)
  for _, group in ipairs(groups) do
    it("gives what jinja2 gives: " .. group, function()
      for _, case in ipairs(by_name[group]) do
        local variables = {}
        for _, from in ipairs { reference.variables, case.variables or {} } do
          for name, value in pairs(from) do
            variables[name] = value
          end
        end
        if case.error then
          failure(case.template, variables, { clock = "2026-01-01" })
        else
          assert.equal(case.output, render(case.template, variables, { clock = "2026-01-01" }), case.template)
        end
      end
    end)
  end

  it("renders the same twice and leaves the context alone", function()
    local source = "{% set l = l + [9] %}{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ l }}{{ ns.a }}"
    local t = template.compile(source)
    local context = { l = { 1, 2 } }
    assert.equal("[1, 2, 9]2", t:render(context))
    assert.equal("[1, 2, 9]2", t:render(context))
    assert.same({ l = { 1, 2 } }, context)
  end)

  it("says which names it reads and whether it asks for the time", function()
    local t = template.compile "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}{{ tools }}"
    assert.is_true(t.asks_time)
    assert.is_true(t.reads.tools)
    assert.is_nil(t.reads.documents)
    assert.is_false(template.compile("{{ strftime_now }}").asks_time)
  end)
end)

describe("values from Lua", function()
  it("tell null from what is missing", function()
    local source = "{{ a is defined }} {{ a is none }} {{ b is defined }} {{ b is none }}"
    assert.equal("True True False False", render(source, { a = json.null }))
    assert.equal("True True False False", render(source, { a = template.none }))
    local mine = setmetatable({}, {})
    assert.equal(mine, template.null(mine))
    assert.equal("True True False False", render(source, { a = mine }))
  end)

  it("are dicts in the order the decoder has seen, else sorted", function()
    local source = "{{ d | tojson }} {{ d.keys() | list }}"
    local decoded = json.decode '{"z":1,"a":[1.5,null]}'
    assert.equal([=[{"z": 1, "a": [1.5, null]} ['z', 'a']]=], render(source, { d = decoded }))
    assert.equal([=[{"a": 2, "z": 1} ['a', 'z']]=], render(source, { d = { z = 1, a = 2 } }))
    local changed = json.decode '{"z":1,"b":2,"a":3}'
    changed.b, changed.new = nil, 4
    assert.equal([[{"z": 1, "a": 3, "new": 4}]], render("{{ d | tojson }}", { d = changed }))
  end)

  it("are lists from 1 to n, or what a decoder has marked", function()
    assert.equal("[] {} [1, 2] {}", render("{{ a }} {{ b }} {{ c }} {{ d }}", {
      a = json.decode "[]", b = json.decode "{}", c = { 1, 2 }, d = {},
    }))
  end)

  it("keep whole numbers and floats apart", function()
    assert.equal("1 1.0 9007199254740993 True", render("{{ a }} {{ b }} {{ c }} {{ a == b }}", {
      a = 1, b = 1.0, c = 9007199254740993,
    }))
  end)

  it("are refused where a template has no such thing", function()
    local loop = {}
    loop[1] = loop
    local deep = {}
    for _ = 1, 100 do
      deep = { deep }
    end
    local routine = coroutine.create(print)
    for _, bad in ipairs { print, routine, { 1, 2, x = 3 }, { [2.5] = 1 }, { [true] = 1 }, loop, deep, io.stdout } do
      local ok, e = pcall(render, "x", { v = bad })
      assert.is_false(ok)
      assert.equal("string", type(e))
    end
  end)

  it("give a template no way to Lua", function()
    local proxy = setmetatable({ a = 1 }, { __index = function() error "called" end, secret = "s" })
    for _, source in ipairs {
      "{{ p.__index }}", "{{ p.secret }}", "{{ p.__metatable }}", "{{ s.gsub }}", "{{ s.rep }}", "{{ p.kind }}",
      "{{ l.n }}", "{{ l.kind }}", "{{ s.kind }}", "{{ _G }}", "{{ os }}", "{{ require }}", "{{ loop }}",
      "{% macro f() %}{% endmacro %}{{ f.run }}", "{% for i in l %}{{ loop.take }}{{ loop.rt }}{% endfor %}",
      "{{ namespace.run }}", "{{ range.name }}", "{{ s.upper.target }}",
      "{% set ns = namespace() %}{{ ns.attributes }}{{ ns.kind }}",
    } do
      assert.equal("", render(source, { p = proxy, s = "text", l = { 1 } }), source)
    end
  end)

  it("can be named like what Lua gives a meaning", function()
    local source = "{% set __index = 1 %}{% for i in [2] %}{% set __newindex = i %}"
      .. "{{ __index }}{{ __newindex }}{{ __gc }}{% endfor %}"
    assert.equal("123", render(source, { __gc = 3 }))
  end)
end)

describe("an error", function()
  -- source, code, line, column, words of the message
  local cases = {
    { "a\nb {{ x | frobnicate }}", "unsupported", 2, 10, 'unknown filter "frobnicate"' },
    { "{{ x is\nfrobbed }}", "unsupported", 2, 1, 'unknown test "frobbed"' },
    { "\n\n  {% frob %}", "unsupported", 3, 6, 'unknown tag "frob"' },
    { "{{ x.frob(1) }}", "unsupported", 1, 6, 'unknown method "frob"' },
    { "é{{ frob(1) }}", "unsupported", 1, 5, 'unknown function "frob"' },
    { "{{ x | map('frob') }}", "unsupported", 1, 12, 'unknown filter "frob"' },
    { "{{ x | selectattr('a', 'frob') }}", "unsupported", 1, 24, 'unknown test "frob"' },
    { "{{ x | tojson(indnt=2) }}", "unsupported", 1, 8, 'filter tojson has no argument "indnt"' },
    { "{{ l.append(1) }}", "unsupported", 1, 6, "append would change a value" },
    { "{% include 'a' %}", "unsupported", 1, 4, 'unknown tag "include"' },
    { "{{ '\\N{DASH}' }}", "unsupported", 1, 5, "\\N" },
    { "{{ 99999999999999999999 }}", "unsupported", 1, 4, "64 bits" },
    { "{% if a %}\n{{ 1 }}", "format", 1, 4, "if has no end" },
    { "{% endfor %}", "format", 1, 4, "unexpected endfor" },
    { "x\n{{ 'abc }}", "format", 2, 4, "this string has no end" },
    { "x {{ a b }}", "format", 1, 8, "unexpected b, expected }}" },
    { "{{ (1, 2] }}", "format", 1, 9, 'unexpected "]", expected ")"' },
    { "{{ a", "format", 1, 1, "this tag has no end" },
    { "{# a", "format", 1, 1, "this comment has no end" },
    { "\n{{ nope.x }}", "format", 2, 9, "'nope' is undefined" },
    { "{{ d.nope.x }}", "format", 1, 11, "'dict object' has no attribute 'nope'" },
    { "{{ 'a' +\n 1 }}", "format", 1, 8, "can only add str to str, not int" },
    { "{% for i in 5 %}{% endfor %}", "format", 1, 4, "int is not iterable" },
    { "{{ 1 // 0 }}", "format", 1, 6, "division by zero" },
    { "{{ raise_exception('no\nway') }}", "format", 1, 4, "the template refuses: no\\nway" },
    { "{{ 9223372036854775807 + 1 }}", "unsupported", 1, 24, "64 bits" },
    { "{{ l|map('upper') }}", "unsupported", 1, 1, "map has no text" },
    { "{{ strftime_now('%Q') }}", "unsupported", 1, 4, "%Q" },
    { "\xFF", "format", 1, 1, "not UTF-8" },
  }
  for _, case in ipairs(cases) do
    it("tells the place: " .. case[5], function()
      local e = failure(case[1], { d = {}, l = { "a" }, x = "x" })
      local place = ("t.jinja:%d:%d: "):format(case[3], case[4])
      assert.equal(case[2], e.code)
      assert.equal(place, e.message:sub(1, #place), e.message)
      assert.is_truthy(e.message:find(case[5], 1, true), e.message)
      assert.equal(case[3], e.line)
      assert.equal(case[4], e.column)
      assert.equal("t.jinja", e.path)
      assert.equal(e.message, tostring(e))
    end)
  end

  it("comes when the template is compiled, also for what would never run", function()
    for _, source in ipairs {
      "{% if false %}{{ x | frob }}{% endif %}", "{% if false %}{{ x is frob }}{% endif %}",
      "{% if false %}{{ x.frob() }}{% endif %}", "{% macro f() %}{{ frob() }}{% endmacro %}",
      "{% if false %}{% frob %}{% endif %}",
    } do
      local ok, e = pcall(template.compile, source)
      assert.is_false(ok, source)
      assert.equal("unsupported", e.code)
    end
    -- but a function that the template asks about is the host's to have
    assert.equal("-", render "{% if frob is defined %}{{ frob() }}{% else %}-{% endif %}")
  end)

  it("is one line, whatever the template raises", function()
    local e = failure "{{ raise_exception('a\nb\\x1b[31m\\x00') }}"
    assert.is_nil(e.message:find "%c")
    assert.equal("a\nb\27[31m\0", e.raised)
  end)
end)

describe("a limit", function()
  -- n.x and n.y, changed 99 times over
  local function grow(body, first)
    local source = "{%% set n = namespace(x=%s, y=%s) %%}{%% for i in range(99) %%}%s{%% endfor %%}"
    return source:format(first, first, body)
  end
  -- an expression, a million times over
  local function many(value, before)
    return ("%s{%% for i in range(10**6) %%}{%% set x = %s %%}{%% endfor %%}"):format(before or "", value)
  end
  local nested = grow("{% if i < 40 %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endif %}", "[]")
  local attacks = {
    ["doubling with +"] = grow("{% set n.x = n.x + n.x %}", "'a'"),
    ["doubling with ~"] = grow("{% set n.x = n.x ~ n.x %}", "'a'"),
    ["doubling with join"] = grow("{% set n.x = [n.x, n.x]|join %}", "'a'"),
    ["doubling with replace"] = grow("{% set n.x = n.x.replace('a', 'aa') %}", "'a'"),
    ["doubling with a format"] = grow("{% set n.x = '%s%s' % (n.x, n.x) %}", "'a'"),
    ["doubling with a block"] = grow("{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}", "'a'"),
    ["doubling a list"] = grow("{% set n.x = n.x + n.x %}", "[1]"),
    ["a long text"] = "{{ 'a' * 10 ** 12 }}",
    ["a long list"] = "{{ [1] * 10 ** 12 }}",
    ["a wide field"] = "{{ '%999999999d' % 1 }}",
    ["a wide field in braces"] = "{{ '{:999999999}'.format(1) }}",
    ["a centred text"] = "{{ 'a'.center(10 ** 12) }}",
    ["a wide indent"] = "{{ ('\n' * 1000000)|indent(1000000) }}",
    ["a wide batch"] = "{{ [1]|batch(10 ** 12, 1)|list|length }}",
    ["many slices"] = "{{ [1]|slice(10 ** 12)|list|length }}",
    ["loops in loops"] = "{% for i in range(10**6) %}{% for j in range(10**6) %}{% endfor %}{% endfor %}",
    ["output in loops"] = "{% for i in range(10**6) %}{% for j in range(10**6) %}{{ i }}{% endfor %}{% endfor %}",
    ["sums in loops"] = "{% for i in range(10**6) %}" .. many "i * i + 1" .. "{% endfor %}",
    ["calls in loops"] = "{% for i in range(10**6) %}" .. many "'abc'.replace('b', 'c')" .. "{% endfor %}",
    ["a range without end"] = "{{ range(10**9)|list }}",
    ["many ranges"] = ("{{ range(10**6)|list|length }}"):rep(3),
    ["a macro that calls itself"] = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ["macros that call each other"] = "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}"
      .. "{{ f() }}",
    ["a tree of calls"] = "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(30) }}",
    ["a loop that calls itself"] = "{% set l = [0] %}{% for i in l recursive %}{{ loop(l) }}{% endfor %}",
    ["a long search"] = "{% set a = 'a' * 4000000 %}{{ ('a' * 2000000 ~ 'b') in a }}",
    ["many searches"] = many("b in a", "{% set a = 'a' * 20000 %}{% set b = 'a' * 60 ~ 'b' %}"),
    ["many comparisons"] = many("a == b", ("{% set a = 'a' * 4000000 ~ 'b' %}{% set b = 'a' * 4000000 ~ 'b' %}")),
    ["many orders"] = many("a < b", "{% set a = 'a' * 1000000 ~ 'b' %}{% set b = 'a' * 1000000 ~ 'c' %}"),
    ["many strips"] = many("a|trim", "{% set a = ' ' * 10000 %}"),
    ["many lengths"] = many("a|length", "{% set a = 'é' * 2000000 %}"),
    ["many subscripts"] = many("a[1000000]", "{% set a = 'a' * 2000000 %}"),
    ["many capitals"] = many("a|title", "{% set a = 'é' * 10000 %}"),
    ["many characters"] = "{{ ('é' * 2000000)|list|length }}",
    ["lists in lists, printed"] = nested .. "{{ n.x }}",
    ["lists in lists, as JSON"] = nested .. "{{ n.x|tojson }}",
    ["lists in lists, compared"] = nested .. "{{ n.x == n.y }}",
    ["a namespace in itself"] = "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
    ["a dict that grows"] = many("'' if f(i) else ''",
      "{% set n = namespace(d={}) %}{% macro f(i) %}{% set n.d = dict(n.d, **{'k' ~ i: i}) %}{% endmacro %}"),
    ["a chain of lists"] = "{% set n = namespace(l=[]) %}{% for i in range(10**6) %}"
      .. "{% set n.l = [n.l, {'a': i}] %}{% endfor %}",
    ["a power"] = "{{ 10 ** 10 ** 9 }}",
    ["output"] = "{% set a = 'a' * 1000000 %}{% for i in range(100) %}{{ a }}{% endfor %}",
    ["brackets"] = "{{ " .. ("("):rep(100000),
    ["dicts"] = "{{ " .. ("{'a':"):rep(50000),
    ["nots"] = "{{ " .. ("not "):rep(60000) .. "1 }}",
    ["minus signs"] = "{{ " .. ("-"):rep(100000) .. "1 }}",
    ["conditions"] = "{{ " .. ("1 if 0 else "):rep(20000) .. "2 }}",
    ["attributes"] = "{{ a" .. (".b"):rep(100000) .. " }}",
    ["filters"] = "{{ 'a'" .. ("|upper"):rep(40000) .. " }}",
    ["blocks"] = ("{% if 1 %}"):rep(20000),
    ["macros in macros"] = ("{% macro f() %}"):rep(15000),
    ["terms"] = "{{ " .. ("1+"):rep(120000) .. "1 }}",
    ["a large source"] = (" "):rep(256 * 1024 + 1),
    ["raw blocks that do not end"] = "{% raw %}" .. ("{% endraw"):rep(25000),
    ["a comment that does not end"] = "{#" .. ("a"):rep(200000),
  }
  local charge = rendering.charge
  local names = {}
  for name in pairs(attacks) do
    names[#names + 1] = name
  end
  table.sort(names)

  -- seconds and bytes that an attack takes, and what it raises
  local function suffer(name)
    collectgarbage()
    collectgarbage()
    local before, peak, calls = collectgarbage "count", 0, 0
    function rendering.charge(rt, steps) -- looks at the memory now and then
      calls = calls + 1
      if calls & 1023 == 0 or steps > 10000 then peak = math.max(peak, collectgarbage "count") end
      return charge(rt, steps)
    end
    local start = os.clock()
    local ok, e = pcall(render, attacks[name])
    local seconds = os.clock() - start
    rendering.charge = charge
    assert.is_false(ok)
    return seconds, (math.max(peak, collectgarbage "count") - before) * 1024, e
  end

  for _, name in ipairs(names) do
    it("stops in a second and 64 MB: " .. name, function()
      local seconds, bytes, e = suffer(name)
      assert.equal("table", type(e), tostring(e))
      assert.is_truthy(e.code == "unsupported" or e.code == "format", e.message)
      assert.is_truthy(e.line and e.column)
      assert.is_true(#e.message < 1000)
      assert.is_true(bytes < 64 << 20, ("%.1f MB"):format(bytes / (1 << 20)))
      if seconds < 1 then return end
      -- a slow or busy machine: what counts is that its steps take no longer than those of plain sums do there and then
      local least = math.huge
      for _ = 1, 3 do
        least = math.min(least, suffer(name) / suffer "sums in loops")
        if least < 2.5 then return end
      end
      error(("%.2f s, %.1f times as long as plain sums"):format(seconds, least))
    end)
  end

  it("leaves room for what is large and honest", function()
    local part = ("word "):rep(200000) -- one megabyte
    local messages = { { role = "user", content = part }, { role = "assistant", content = part } }
    local source = "{% for m in messages %}"
      .. "{{ '<' + m.role + '>' + m.content | trim + '</' + m.role + '>\\n' }}{% endfor %}"
    assert.equal(2 * (#part - 1) + 38, #render(source, { messages = messages }))
    local turns = {}
    for i = 1, 20000 do
      turns[i] = { role = i % 2 == 1 and "user" or "assistant", content = "turn " .. i }
    end
    assert.is_true(#render(source, { messages = turns }) > 20000 * 20)
    assert.equal("50001", render("{{ " .. ("1 + "):rep(25000) .. "25001 }}", {}))
  end)
end)

describe("damaged templates", function()
  local seeds = {}
  for i, case in ipairs(reference.cases) do
    if #case.template < 400 and i % 3 == 0 then seeds[#seeds + 1] = case.template end
  end
  local parts = {
    "{{", "}}", "{%", "%}", "-%}", "{%-", "{#", "#}", "'", '"', "(", ")", "[", "]", "{", "}", "|", ".", ",", ":",
    " is ", " not ", " in ", " if ", " else ", "endfor", "endif", "for ", "set ", "\\", "\0", "\xFF", "é", "**", "~",
    "-1", "1e999", "none", "x",
  }

  it("raise error objects and nothing else", function()
    local steps = rendering.limits.steps
    rendering.limits.steps = 50000
    finally(function() rendering.limits.steps = steps end)
    math.randomseed(7)
    for round = 1, 4000 do
      local text = seeds[math.random(#seeds)]
      for _ = 1, math.random(3) do
        local at = math.random(0, #text)
        local what = math.random(3)
        if what == 1 then
          text = text:sub(1, at) .. parts[math.random(#parts)] .. text:sub(at + 1)
        elseif what == 2 then
          text = text:sub(1, at) .. text:sub(at + math.random(8))
        else
          local other = seeds[math.random(#seeds)]
          text = text:sub(1, at) .. other:sub(math.random(#other))
        end
      end
      local ok, e = pcall(render, text, reference.variables)
      if not ok then
        assert.equal("table", type(e), ("round %d, %q: %s"):format(round, text, tostring(e)))
        assert.is_truthy(e.line and e.column and e.message)
      end
    end
  end)
end)

describe("the clock", function()
  local source = "{{ strftime_now('%d %b %Y %H:%M:%S') }}"

  it("stands still where nobody sets it", function()
    if not os.getenv "WANE_NOW" then assert.equal("01 Jan 2026 00:00:00", render(source)) end
  end)

  it("takes text, seconds and parts", function()
    assert.equal("29 Feb 2024 00:00:00", render(source, {}, { clock = "2024-02-29" }))
    assert.equal("31 Dec 1999 23:59:00", render(source, {}, { clock = "1999-12-31 23:59" }))
    assert.equal("31 Dec 1999 23:59:58", render(source, {}, { clock = "1999-12-31T23:59:58Z" }))
    assert.equal("01 Jan 1970 00:00:00", render(source, {}, { clock = 0 }))
    local parts = { year = 2026, month = 7, day = 5, hour = 6, min = 40 }
    assert.equal("05 Jul 2026 06:40:00", render(source, {}, { clock = parts }))
    for _, seconds in ipairs { -1, 951782400, 951868799, 1709164800, 4102444799, 253402300799 } do
      assert.equal(os.date("!%d %b %Y %H:%M:%S", seconds), render(source, {}, { clock = seconds }))
    end
  end)

  it("agrees with strftime on every field", function()
    for _, seconds in ipairs { 0, 951782400, 1704067199, 1767225600, 1782345678 } do
      for field in ("aAbBcdDeFhHIjmMnprRStTuwxXyY%"):gmatch "." do
        if field ~= "r" then
          local format = "%" .. field
          local got = render("{{ strftime_now(f) }}", { f = format }, { clock = seconds })
          assert.equal(os.date("!" .. format, seconds), got, format)
        end
      end
    end
  end)

  it("refuses what is no time", function()
    local texts = { "tomorrow", "2026-02-29", "2026-13-01", "2026-01-01T25:00", "2026-01-01x" }
    for _, bad in ipairs { 1.5, true, 1 << 60, {}, table.unpack(texts) } do
      local ok, e = pcall(render, "x", {}, { clock = bad })
      assert.is_false(ok)
      assert.is_truthy(tostring(e):find("clock is no time", 1, true), tostring(e))
    end
  end)
end)
