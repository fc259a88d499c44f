-- The prompt: what it prints, completes and remembers, in this process and at a terminal.
local complete = require "wane.complete"
local core = require "wane.core"
local help = require "wane.help"
local process = require "support.process"
local repl = require "wane.repl"
local show = require "wane.show"

describe("a value at the prompt", function()
  local function shows(text, value) assert.equal(text, show.value(value)) end

  it("is shown as it is where it is simple", function()
    shows("1", 1)
    shows("1.0", 1.0)
    shows("nil", nil)
    shows("a\n\tb", "a\n\tb")
    shows("null", core.json.null)
  end)

  it("is shown as a table would be written", function()
    shows("{}", {})
    shows('{ 1, "b", x = true }', { 1, "b", x = true })
    shows('{ ["a b"] = 1, ["end"] = 2, [1.5] = 3 }', { ["a b"] = 1, ["end"] = 2, [1.5] = 3 })
    shows("{ { { {...} } } }", { { { { 1 } } } })
    shows('{ "z", y = 1 }', { "z", y = 1 })
  end)

  it("keeps the order that a file had", function() shows("{ z = 1, a = 2 }", core.json.decode '{"z":1,"a":2}') end)

  it("is cut where it is long, and goes over lines where it is wide", function()
    local long = {}
    for i = 1, 100 do long[i] = i end
    assert.matches(" 24,\n  %.%.%. 76 more\n}$", show.value(long))
    assert.matches('^{ "x+"%.%.%. 1000 bytes }$', show.value { ("x"):rep(1000) })
    assert.matches("^{\n  a = ", show.value { a = ("x"):rep(50), b = ("y"):rep(50) })
    assert.is_truthy(utf8.len(show.value { ("é"):rep(500) }))
  end)

  it("may contain itself, or fail to speak", function()
    local t = {}
    t.t = t
    shows("{ t = <itself> }", t)
    assert.matches("cannot be shown", show.value(setmetatable({}, { __tostring = function() error "no" end })))
  end)

  it("sends the terminal no control characters", function()
    shows("\\x1b[31m", "\27[31m")
    shows('{ "\\x1b[31m\\n" }', { "\27[31m\n" })
  end)

  it("stands in a line with others, or in one of its own", function()
    assert.equal("1   a   nil", show.values(80, 1, "a", nil))
    assert.equal(("x"):rep(60) .. "\n" .. ("y"):rep(60), show.values(80, ("x"):rep(60), ("y"):rep(60)))
  end)
end)

describe("what is typed", function()
  it("is an expression, a statement, unfinished or wrong", function()
    assert.equal(2, repl.compile("1 + 1")())
    assert.is_nil((repl.compile("x_of_repl_spec = 1")()))
    x_of_repl_spec = nil -- luacheck: ignore
    assert.same({ nil, "more" }, { repl.compile "for i = 1, 2 do" })
    assert.same({ nil, "more" }, { repl.compile "f(" })
    assert.matches("unexpected symbol", select(2, repl.compile ")"))
  end)

  it("keeps to itself with a semicolon", function() assert.equal(0, select("#", repl.compile("1 + 1;")())) end)
end)

describe("Tab", function()
  local function completes(text, insert, names)
    local got, list = complete.line(text)
    assert.equal(insert, got)
    if names then
      for _, name in ipairs(names) do assert.is_true(table.concat(list or {}, " "):find(name, 1, true) ~= nil, name) end
    end
  end

  setup(function()
    local trap = setmetatable({}, { __index = function() error "ran a script's function" end })
    local class = { walk = function() end, name = "x" }
    _G.spec_value = { alpha = 1, alphabet = 2, beta = { gamma = 3 }, trap = trap, { delta = 4 },
      object = setmetatable({}, { __index = class }) }
    _G.spec_wane = require "wane"
  end)

  teardown(function() _G.spec_value, _G.spec_wane = nil, nil end)

  it("indents an empty line", function() completes("", "  ") end)
  it("completes globals", function() completes("spec_v", "alue") end)
  it("completes words of Lua", function() completes("x = fal", "se") end)
  it("completes fields as far as they agree", function() completes("print(spec_value.al", "pha") end)
  it("shows the names where they do not", function() completes("spec_value.alpha", "", { "alpha", "alphabet" }) end)
  it("goes deeper", function() completes("spec_value.beta.g", "amma") end)
  it("goes through indices", function() completes("spec_value[1].d", "elta") end)
  it("finds methods through a class", function() completes("spec_value.object:w", "alk") end)
  it("offers no field as a method", function() completes("spec_value.object:n", "") end)
  it("runs no function of a script", function() completes("spec_value.trap.x", "") end)
  it("copes with nothing there", function() completes("no_such_thing.x.y", "") end)
  it("names wane's modules before they are loaded", function() completes("spec_wane.js", "on") end)
  it("looks into them", function() completes("spec_wane.json.enc", "ode") end)

  it("knows the methods of wane's own values", function()
    _G.spec_lock = core.files.lock(process.folder())
    completes("spec_lock:cl", "ose")
    _G.spec_lock:close()
    _G.spec_lock = nil
  end)

  it("knows the options of what is being called", function()
    completes("spec_wane.device { mem", "")
    completes("wane.device { mem", "ory = ")
    completes('wane.device { name = "cpu", ho', "st_memory = ")
  end)

  it("completes files inside a string", function()
    local dir = process.folder()
    core.files.write(dir .. "/some file.lua", "")
    core.files.mkdir(dir .. "/folder")
    completes(('dofile("%s/so'):format(dir), "me file.lua")
    completes(("dofile('%s/fo"):format(dir), "lder/")
    core.files.remove(dir)
  end)
end)

describe("?", function()
  it("tells about functions in C, in Lua, modules and types", function()
    assert.matches("^json%.encode%(value", help.about "json.encode")
    assert.matches("^json%.encode%(value", help.about "wane.json.encode")
    assert.matches("^json%.save%(path", help.about "json.save")
    assert.matches("wane%.try%(code, f", help.about "try")
    assert.matches("JSON, strict.*json%.decode%(text", help.about "json")
    assert.matches("options:\n.*memory +SIZE", help.about "device")
    assert.matches("make a large language model small", help.about())
  end)

  it("finds a name without its module, or asks which", function()
    assert.matches("^files%.sha256_file%(path", help.about "sha256_file")
    assert.matches("which one%?", help.about "load" .. help.about "list" .. help.about "read")
  end)

  it("names what was meant", function()
    assert.error_matches(function() help.about "json.encoed" end, "no help for json%.encoed; did you mean json%.encode%?")
  end)
end)

describe("input that is no terminal", function()
  local function pipe(input) return process.run_wane({}, input) end

  it("is run statement by statement, without a banner", function()
    local r = pipe 'x = 5\nx + 1\nfor i = 1, 2 do\n  print(i)\nend\nwane.version; \n"a", nil\n'
    assert.same({ out = "6\n1\n2\na   nil\n", err = "", code = 0 }, r)
  end)

  it("ends at the first error, with its line and exit code", function()
    local r = pipe 'print(1)\n\nwane.fail { code = "oom", message = "no room" }\nprint(2)\n'
    assert.equal("1\n", r.out)
    assert.equal(4, r.code)
    r = pipe 'print(1)\n\nerror("x")\n'
    assert.matches("^stdin:3: x\nstack traceback:", r.err)
    assert.is_nil(r.err:find("repl%.lua"))
  end)

  it("that stops within a statement is an error", function()
    local r = pipe "for i = 1, 2 do\n"
    assert.equal(1, r.code)
    assert.matches("ends within a statement that began in line 1", r.err)
  end)

  it("answers ?name", function() assert.matches("^json%.encode%(value", pipe("?json.encode\n").out) end)
  it("tells once that a local is lost", function()
    local _, times = pipe("local x = 1\nlocal y = 2\n").err:gsub("a local ends with its line", "")
    assert.equal(1, times)
  end)
end)

describe("at a terminal", function()
  local state

  -- steps as in tests/support/terminal.py; tries: where it is about time, a busy machine may need more than one
  local function at_terminal(steps, environment, tries)
    local r
    for _ = 1, tries or 1 do
      r = process.run(("timeout -k 5 60 env %s TERM=xterm OMP_NUM_THREADS=1 python3 tests/support/terminal.py %s"):format(
        environment or "XDG_STATE_HOME=" .. state, process.quote(process.wane)), table.concat(steps, "\n") .. "\n")
      if r.code == 0 then break end
    end
    assert.equal(0, r.code, r.out .. r.err)
    return r.out
  end

  before_each(function() state = process.folder() end)
  after_each(function() core.files.remove(state) end)

  it("there is a banner, answers, and an end with Ctrl-D", function()
    at_terminal { "expect wane [%d.]*", "expect \\?name for help", "expect > $", "type 6 * 7\\r", "expect 42", "expect > $",
      "type \\x04", "gone 0" }
  end)

  it("an unfinished statement goes on", function()
    at_terminal { "expect > $", "type for i = 1, 2 do\\r", "expect >> $", "type print(i * 111)\\r", "type end\\r",
      "expect 111\\r\\n222\\r\\n> $", "type \\x04", "gone 0" }
  end)

  it("an error shows where it was, and the state stays", function()
    local out = at_terminal { "expect > $", "type x = 41\\r", "type error('no')\\r", "expect prompt:1: no",
      "expect in main chunk", "expect > $", "type x + 1\\r", "expect 42", "type \\x04", "gone 0" }
    assert.is_nil(out:find("repl%.lua"))
  end)

  it("Tab completes and shows names", function()
    at_terminal { "expect > $", "type wane.json.enc\\t", "expect ode$", "type ({})\\r", "expect {}",
      "type wane.json.\\t\\t", "expect array .*decode", "expect wane.json.$", "type \\x03", "expect > $", "type \\x04",
      "gone 0" }
  end)

  it("letters beyond ASCII are letters", function()
    at_terminal { "expect > $", "type #'\\xc3\\xa9\\xe2\\x82\\xac\\xf0\\x9f\\x98\\x80'\\r", "expect 9", "type \\x04", "gone 0" }
  end)

  it("Ctrl-C clears the line, and a statement that is unfinished", function()
    at_terminal { "expect > $", "type error('not this')\\x03", "expect \\^C\\r\\n> $", "type for i = 1, 2 do\\r", "expect >> $",
      "type \\x03", "expect \\^C\\r\\n> $", "type 1 + 1\\r", "expect 2\\r\\n> $", "type \\x04", "gone 0" }
  end)

  local loops = {
    ["a loop"] = "while true do end",
    ["a loop around pcall"] = "while true do pcall(function() while true do end end) end",
    ["C code that waits"] = "os.execute('sleep 30')",
    ["Lua that reads"] = "io.read()",
    ["a model at work"] = "m = wane.load 'examples/models/lune-5m'; while true do m:perplexity(('one and two '):rep(9999)) end",
  }
  for what, code in pairs(loops) do
    it("Ctrl-C stops " .. what .. " within 250 ms and keeps the state", function()
      local patience = process.sanitized() and 2 or 0.25
      at_terminal({ "expect > $", "type x = 42\\r", "expect > $", "type " .. code .. "\\r", "within 1 \\r\\n",
        "wait " .. (what:find "model" and 1 or 0.3), "type \\x03", ("within %s \\n> $"):format(patience), "type x\\r",
        "expect 42\\r\\n> $", "type \\x04", "gone 0" }, nil, 3)
    end)
  end

  it("the second of two ends what cannot be stopped", function()
    at_terminal { "expect > $", "type string.find(('a'):rep(3000), '.-.-.-b')\\r", "within 1 \\r\\n", "type \\x03",
      "expect \\^C", "wait 0.4", "type \\x03", "gone -2" }
  end)

  it("lines are there again the next time, also those of several lines", function()
    at_terminal { "expect > $", "type x = 'first'\\r", "expect > $", "type for i = 1, 1 do\\r", "expect >> $",
      "type print(x .. i)\\r", "expect >> $", "type end\\r", "expect first1", "type \\x04", "gone 0" }
    assert.equal("x = 'first'\nfor i = 1, 1 do\\nprint(x .. i)\\nend\n", core.files.read(state .. "/wane/history"))
    at_terminal { "expect > $", "type \\x1b[A\\x1b[A", "expect first", "type \\r", "expect > $", "type \\x1b[A\\x1b[A\\r",
      "expect first1", "type \\x04", "gone 0" }
    assert.equal("-rw-------", process.run("ls -l " .. state .. "/wane/history").out:match("^%S+"))
  end)

  it("a line that begins with a space is not kept", function()
    at_terminal { "expect > $", "type  secret = 1\\r", "expect > $", "type \\x04", "gone 0" }
    assert.is_nil(core.files.kind(state .. "/wane/history"))
  end)

  it("no home, a home that cannot be written, or a dumb terminal is no trouble", function()
    local steps = { "expect > ", "type 6 * 7\\r", "expect 42", "type \\x04", "gone 0" }
    at_terminal(steps, "-u HOME -u XDG_STATE_HOME")
    at_terminal(steps, "-u XDG_STATE_HOME HOME=/proc")
    at_terminal(steps, "-u HOME LC_ALL=C")
  end)

  it("SIGTERM ends it", function()
    at_terminal { "expect > $", "type os.execute('kill $PPID')\\r", "expect wane: interrupted", "gone 75" }
  end)
end)
