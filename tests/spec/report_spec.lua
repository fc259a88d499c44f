-- Pages: what stands in them, that nothing from outside breaks them, and that charts keep their labels apart.
local wane = require "wane"
local document = require "wane.document"
local process = require "support.process"
local report = require "wane.report"
local svg = require "wane.svg"
local core = wane.core

local dir = process.folder()
teardown(function() os.execute("rm -r " .. dir) end)

local HOSTILE = "</svg><script>alert(1)</script>&\"'`|*_[x](y)\\\r\n\27[31m\0\xff\u{202e}\u{fffe}"

-- Elements of an XML text: { name, attributes, depth }, and its text; an error where it is not well-formed.
local function parse(text)
  local elements, open, content, at = {}, {}, {}, 1
  text = text:gsub("^<!DOCTYPE html>%s*", "")
  assert(utf8.len(text), "not UTF-8")
  local function entities(s)
    for entity in s:gmatch("&[^;]*;?") do
      assert(({ ["&amp;"] = 1, ["&lt;"] = 1, ["&gt;"] = 1, ["&quot;"] = 1 })[entity], "bad entity " .. entity)
    end
    assert(not s:find("[\0-\8\11\12\14-\31]"), "control character")
    return s
  end
  while at <= #text do
    local from = text:find("<", at, true) or #text + 1
    content[#content + 1] = entities(text:sub(at, from - 1))
    if from > #text then break end
    local close, to = text:match("^</([%w-]+)>()", from)
    if close then
      assert(open[#open] == close, ("</%s> closes <%s>"):format(close, tostring(open[#open])))
      open[#open] = nil
    else
      local name, attributes, ending
      name, attributes, ending, to = text:match('^<([%w-]+)([^<>]-)(/?)>()', from)
      assert(name, "not a tag: " .. text:sub(from, from + 40))
      local element = { name = name, depth = #open, attributes = {} }
      local rest = attributes:gsub('%s+([%w:-]+)="([^"<]*)"', function(key, value)
        assert(not element.attributes[key], "attribute twice")
        element.attributes[key] = entities(value)
        return ""
      end)
      assert(not rest:find("%S"), "attributes: " .. attributes)
      elements[#elements + 1] = element
      if ending == "" then open[#open + 1] = name end
    end
    at = to
  end
  assert(#open == 0, "left open: " .. tostring(open[1]))
  return elements, table.concat(content)
end

local function count(elements, name)
  local n = 0
  for _, e in ipairs(elements) do n = n + (e.name == name and 1 or 0) end
  return n
end

-- a result as wane.evaluate gives it, over questions that are right as the text says
local function result(name, text, more)
  local samples, correct = {}, 0
  for i = 1, #text do
    local right = text:sub(i, i) == "+"
    correct = correct + (right and 1 or 0)
    samples[i] = { task = "arc", id = "q" .. i, line = i, correct = right, gold = "A", extracted = right and "A" or nil,
                   milliseconds = 10.0, tokens = 5 }
  end
  local own = { n = #text, correct = correct, accuracy = correct / #text, format_compliance = 1.0,
                interval = wane.statistics.wilson(correct, #text), macro_f1 = 0.5 }
  local r = { name = name, n = #text, correct = correct, accuracy = own.accuracy, format_compliance = 1.0,
              interval = own.interval, latency = { median = 12.4 }, tokens = { mean = 5.0 }, order = { "arc" },
              tasks = { arc = own }, samples = samples, bytes = 1 << 20, bits_per_weight = 4.25, warnings = {},
              hardware = { device = "a machine" }, time = "2026-01-01T00:00:00Z" }
  for key, value in pairs(more or {}) do r[key] = value end
  return r
end

local function some()
  local layers = {}
  for i = 0, 13 do
    layers[i + 1] = { name = ("model.layers.%d.mlp.up_proj"):format(i // 7), error = 0.05, rtn_error = 0.08,
                      damp = i == 3 and 0.01 or nil, fallback = i == 4 and "rtn" or nil, seconds = 0.1 }
  end
  return { result("base", "++++++++--"), result("small", "+++++++---", { layers = layers, bytes = 1 << 18,
    quantization = { label = "gptq w4 g64" } }), result("other", "++++++++++", { warnings = { "n is small" } }) }
end

describe("a page over results", function()
  it("has every figure with its n and interval", function()
    local text = report(some(), { title = "Three" }):gsub(" +", " ")
    assert.is_truthy(text:find("^# Three\n"))
    assert.is_truthy(text:find("| base | as it is | 10 | 80.0 % (49.0 to 94.3) | baseline |", 1, true))
    assert.is_truthy(text:find("gptq w4 g64 | 10 | 70.0 % (39.7 to 89.2) |", 1, true))
    assert.is_truthy(text:find("-10.0 (-30.9 to +14.3)", 1, true))
    assert.is_truthy(text:find("- other: n is small", 1, true))
    assert.is_truthy(text:find("### ARC Challenge", 1, true))
  end)

  it("is HTML that is also well-formed XML, with its charts, and needs nothing from elsewhere", function()
    local out = dir .. "/page.html"
    report(some(), { out = out, title = "Three" })
    local text = core.files.read(out)
    local elements = parse(text)
    assert.equal(4, count(elements, "svg"))
    assert.equal(0, count(elements, "script") + count(elements, "link") + count(elements, "img"))
    assert.is_nil(text:gsub('xmlns="http://www.w3.org/2000/svg"', ""):find("https?://"))
    assert.equal(3, count(elements, "details"))
    if core.files.kind "/usr/bin/xmllint" then
      assert.equal(0, process.run("xmllint --noout --nonet " .. process.quote(out)).code)
    end
  end)

  it("is JSON that reads back", function()
    report(some(), { out = dir .. "/page.json" })
    local page = wane.json.load(dir .. "/page.json")
    assert.equal(3, #page.results)
    assert.equal(wane.json.null, page.compared[1])
    assert.equal(1, page.compared[2].lost)
    assert.equal("gptq w4 g64", page.results[2].summary.quantization)
  end)

  it("is Markdown without charts where the file says so", function()
    local text = report(some(), { out = dir .. "/page.md" })
    assert.equal(text, core.files.read(dir .. "/page.md"))
    assert.is_nil(text:find("<svg", 1, true))
    assert.is_truthy(text:find("\n## Answers that changed\n\n[^\n]+ questions lost, [^\n]+\n\n| set "), text)
    assert.is_nil((text .. "\n"):find("\n## [^\n]+\n+## "))
    assert.is_nil((text .. "\n"):find("\n#+ [^\n]+\n+$"))
  end)

  it("compares with the result that is asked for", function()
    local text = report(some(), { baseline = 3 })
    assert.is_truthy(text:find("baseline: other", 1, true))
    assert.is_truthy(text:find("-20.0 (", 1, true))
  end)

  it("of one result has no comparison", function()
    local text = report({ some()[1] })
    assert.is_truthy(text:find(" baseline |", 1, true))
    assert.is_nil(text:find("Answers that changed", 1, true))
  end)

  it("refuses other endings, no results, and a baseline that is not there", function()
    for message, arguments in pairs {
      ["must end in .md, .html or .json"] = { some(), { out = dir .. "/page.pdf" } },
      ["takes a list of results"] = { {}, {} },
      ["there is no result 9"] = { some(), { baseline = 9 } },
    } do
      local ok, err = pcall(report, table.unpack(arguments))
      assert.is_false(ok)
      assert.is_truthy(tostring(err):find(message, 1, true), tostring(err))
    end
  end)
end)

describe("text from outside", function()
  it("stays text in HTML", function()
    local results = { result(HOSTILE, "+-", { warnings = { HOSTILE }, hardware = { device = HOSTILE } }),
                      result("other" .. HOSTILE, "-+") }
    results[1].samples[1].extracted, results[1].samples[1].gold = HOSTILE, HOSTILE
    results[2].layers = { { name = HOSTILE, error = 0.1, rtn_error = 0.2 }, { name = HOSTILE, error = 0.1, rtn_error = 0.2 } }
    report(results, { out = dir .. "/hostile.html", title = HOSTILE })
    local text = core.files.read(dir .. "/hostile.html")
    local elements = parse(text)
    assert.equal(0, count(elements, "script"))
    assert.is_nil(text:find("[\0\27]"))
  end)

  it("breaks no row of a Markdown table and starts no tag", function()
    local text = document.markdown { { kind = "table", header = { "a", HOSTILE }, rows = { { HOSTILE, "x" } } },
                                     { kind = "list", items = { HOSTILE } }, { kind = "text", text = HOSTILE } }
    local rows = 0
    for line in text:gmatch("[^\n]+") do
      if line:find("^|") then
        rows = rows + 1
        assert.equal(3, select(2, line:gsub("%f[\\|]|", "|")), line)
      end
      assert.is_nil(line:find("[^\\]<"), line)
      assert.is_nil(line:find("[%c]"))
    end
    assert.equal(3, rows)
  end)

  it("is escaped for XML and never split inside a character", function()
    assert.equal("&lt;a&gt; &amp; &quot;b&quot;", svg.escape('<a> & "b"'))
    assert.equal("\u{fffd}x\u{fffd}\u{e9}", svg.escape("\xffx\xc3\u{e9}"))
    assert.equal("ab", svg.escape("a\0\27\127b"))
    assert.equal("\u{fffd}", svg.escape("\u{fffe}"))
    assert.equal("nil", svg.escape(nil))
  end)
end)

-- Boxes of the small texts in a chart, as wide as a browser makes them at least.
local function labels(chart)
  local boxes = {}
  for attributes, content in chart:gmatch("<text ([^>]*)>([^<]*)</text>") do
    local x, y = tonumber(attributes:match('x="([^"]+)"')), tonumber(attributes:match('y="([^"]+)"'))
    local anchor, width = attributes:match('text%-anchor="(%l+)"'), 5.5 * utf8.len(content)
    local left = anchor == "end" and x - width or anchor == "middle" and x - width / 2 or x
    boxes[#boxes + 1] = { left = left, right = left + width, top = y - 9, bottom = y, text = content }
  end
  return boxes
end

local function overlapping(chart)
  local boxes = labels(chart)
  for i, a in ipairs(boxes) do
    for j = i + 1, #boxes do
      local b = boxes[j]
      if a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom then
        return ("%s and %s overlap"):format(a.text, b.text)
      end
    end
  end
end

local function outside(chart)
  local width, height = chart:match('viewBox="0 0 (%d+) (%d+)"')
  for _, b in ipairs(labels(chart)) do
    if b.left < -1 or b.right > tonumber(width) + 30 or b.top < 0 or b.bottom > tonumber(height) then
      return b.text .. " is outside"
    end
  end
end

local function check(chart)
  parse(chart)
  assert.is_nil(overlapping(chart))
  assert.is_nil(outside(chart))
  assert.is_nil(chart:find("nan") or chart:find("inf%f[%A]"))
end

describe("a chart", function()
  it("of intervals has a row for each value and the numbers beside it", function()
    local groups = {
      { label = "lune-3m", mark = 84, rows = { { label = "baseline", value = 84, low = 81.3, high = 86.4 },
        { label = "a method with a long name w4 g64", value = 20, low = 0, high = 40 } } },
      { label = "lune-1m", rows = { { label = "x", value = 100, low = 98.1, high = 100 } } },
    }
    local chart = svg.intervals("Accuracy", groups, { unit = " %" })
    check(chart)
    assert.equal(3, count(parse(chart), "circle"))
    assert.is_truthy(chart:find("84.0 (81.3 to 86.4)", 1, true))
    assert.is_truthy(chart:find('class="mark"', 1, true))
  end)

  it("of intervals survives values that are all the same, and none at all", function()
    check(svg.intervals("t", { { rows = { { label = "a", value = 0, low = 0, high = 0 } } } }, {}))
    check(svg.intervals("t", { { rows = {} } }, {}))
    check(svg.intervals("t", {}, {}))
  end)

  it("of points keeps labels apart where points crowd", function()
    local points = {}
    for i = 1, 24 do
      points[i] = { x = i <= 12 and 1.73 or 5, y = 84 + (i % 12) * 0.11, label = "method " .. i, group = i <= 12 and "a" or "b" }
    end
    check(svg.scatter("Size", points, "MiB", "%"))
  end)

  it("of points survives one point, equal points and none", function()
    check(svg.scatter("t", { { x = 3, y = 50, label = "only" } }, "x", "y"))
    check(svg.scatter("t", { { x = 3, y = 50, label = "one" }, { x = 3, y = 50, label = "two" } }, "x", "y"))
    check(svg.scatter("t", {}, "x", "y"))
    check(svg.scatter("t", { { x = 0 / 0, y = 1, label = "n" }, { x = 1, y = math.huge, label = "i" } }, "x", "y"))
  end)

  it("of lines leaves out what is not a number", function()
    local chart = svg.lines("t", { { label = "a", values = { 0.1, 0 / 0, 0.3, false, math.huge } },
      { label = "r", values = { 0.2, 0.2 }, reference = true } }, "matrix", "error")
    check(chart)
    assert.equal(3, select(2, chart:match('points="([^"]*)"'):gsub(",", ",")) + 1)
  end)

  it("of lines thins the marks of many layers", function()
    local values, marks = {}, {}
    for i = 1, 252 do values[i] = 0.05 + 0.01 * math.sin(i) end
    for layer = 0, 35 do marks[layer + 1] = { at = 7 * layer + 1, label = tostring(layer) } end
    check(svg.lines("36 layers", { { label = "gptq", values = values } }, "layer", "error", marks))
    check(svg.lines("t", { { label = "one", values = { 0.5 } } }, "x", "y"))
    check(svg.lines("t", {}, "x", "y"))
  end)
end)

describe("figures as text", function()
  it("are percent with their interval", function()
    assert.equal("88.2 % (85.8 to 90.3)", report.share(0.882, { 0.858, 0.903 }))
    assert.equal("100.0 %", report.share(1))
    assert.equal("", report.share(nil))
  end)
  it("are points with a sign, and none where nothing is left", function()
    assert.equal("-1.2 (-2.9 to +0.5)", report.points(-0.012, { -0.029, 0.005 }))
    assert.equal("0.0 (0.0 to 0.0)", report.points(-0.0001, { -0.0002, 0.0003 }))
  end)
end)

describe("a report of wane eval", function()
  local function page()
    local r = some()[2]
    r.settings = { trunc_eval = 0 }
    return wane.results.page(r)
  end
  local function write(value)
    wane.json.save(dir .. "/result.json", value)
    return dir .. "/result.json"
  end

  it("reads back as the result it was", function()
    local r = wane.results.read(write(page()))
    assert.same({ "small", 10, 7, 0.7, "gptq w4 g64" }, { r.name, r.n, r.correct, r.accuracy, r.quantization.label })
    assert.equal(14, #r.layers)
    assert.equal(1, wane.compare(some()[1], r).lost)
    assert.is_string(report({ some()[1], r }))
  end)

  for what, change in pairs {
    ["no model"] = function(p) p.model = nil end,
    ["no samples"] = function(p) p.samples = nil end,
    ["a sample without a verdict"] = function(p) p.samples[3].correct = nil end,
    ["an interval of words"] = function(p) p.summary.interval = { "a", "b" } end,
    ["a set without figures"] = function(p) p.data_sets.arc = nil end,
    ["null where a number belongs"] = function(p) p.summary.accuracy = wane.json.null end,
    ["a share above 1"] = function(p) p.summary.accuracy = 1e308 end,
    ["a median of words"] = function(p) p.summary.latency.median = "soon" end,
    ["half an answer"] = function(p) p.data_sets.arc.tp = 0.5 end,
    ["a number as its quantization"] = function(p) p.quantization = 5 end,
    ["bytes that are text"] = function(p) p.bytes = "many" end,
    ["layers that are none"] = function(p) p.layers = { 1 } end,
    ["an object as its samples"] = function(p) p.samples = { a = 1 } end,
    ["null among its samples"] = function(p) table.insert(p.samples, 1, wane.json.null) end,
    ["a machine that is no text"] = function(p) p.hardware = { device = {} } end,
    ["a time that is no text"] = function(p) p.time = {} end,
  } do
    it("is refused with " .. what, function()
      local p = page()
      change(p)
      local ok, err = pcall(wane.results.read, write(p))
      assert.is_false(ok)
      assert.equal("format", err.code)
      assert.is_truthy(err.message:find("is no report of wane eval", 1, true), err.message)
    end)
  end

  it("is refused where it is another JSON file", function()
    for _, value in ipairs { 1, "x", {}, { { 1 } } } do
      local ok, err = pcall(wane.results.read, write(value))
      assert.is_false(ok)
      assert.equal("format", err.code)
    end
  end)
end)
