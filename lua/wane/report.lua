--- From results to a page: tables and charts, as Markdown, HTML or JSON by the file's name.
-- Every figure comes with its n and interval; nothing is ranked by what only some answers have.
local core = require "wane.core"
local compare = require "wane.compare"
local document = require "wane.document"
local options = require "wane.options"
local svg = require "wane.svg"
local tasks = require "wane.tasks"

local spec = {
  { name = "out", kind = "string", doc = "file to write: .md, .html or .json" },
  { name = "title", kind = "string", default = "wane report", doc = "heading of the page" },
  { name = "baseline", kind = "integer", default = 1, least = 1, doc = "which result the others are compared with" },
}

local report = { spec = spec }

--- "88.2 % (85.8 to 90.3)": a share with its interval, in percent.
function report.share(value, interval)
  if not value then return "" end
  if not interval then return ("%.1f %%"):format(100 * value) end
  return ("%.1f %% (%.1f to %.1f)"):format(100 * value, 100 * interval[1], 100 * interval[2])
end

-- a difference with its sign; none where it rounds to nothing
local function signed(points) return (("%+.1f"):format(points):gsub("^[+-]0%.0$", "0.0")) end

--- "-1.2 (-2.9 to +0.5)": a difference of shares in points.
function report.points(value, interval)
  return ("%s (%s to %s)"):format(signed(100 * value), signed(100 * interval[1]), signed(100 * interval[2]))
end

--- A number as text; nothing where there is none.
function report.number(value, format) return value and (format or "%.3f"):format(value) or "" end
local number = report.number

local function size(result) return result.bytes and core.device.format_bytes(result.bytes) or "" end

local function overview(results, compared)
  local rows = {}
  for i, r in ipairs(results) do
    local c = compared[i]
    rows[i] = { r.name, r.quantization and r.quantization.label or "as it is", tostring(r.n),
                report.share(r.accuracy, r.interval), c and report.points(c.delta, c.interval) or "baseline",
                c and number(c.p) or "", report.share(r.format_compliance), size(r), number(r.bits_per_weight, "%.2f"),
                number(r.latency.median, "%.0f"), number(r.tokens.mean, "%.1f") }
  end
  return { kind = "table", align = "llrlrrrrrrr", rows = rows,
           header = { "model", "weights", "n", "accuracy (95 %)", "points against baseline", "p", "boxed", "size",
                      "bits/weight", "median ms", "tokens" } }
end

local function task_order(results)
  local order, seen = {}, {}
  for _, r in ipairs(results) do
    for _, name in ipairs(r.order) do
      if not seen[name] then
        seen[name] = true
        order[#order + 1] = name
      end
    end
  end
  return order
end

local function part(t, name) return type(t[name]) == "table" and t[name] or {} end
local function counts(format, ...)
  for i = 1, select("#", ...) do
    if not select(i, ...) then return "" end
  end
  return format:format(...)
end

-- The figures of each set beyond accuracy: what its metrics are called, and where they lie.
local OWN = {
  arc = { { "macro F1", function(t) return number(t.macro_f1) end } },
  boolq = { { "F1", function(t) return number(t.f1) end },
            { "balanced accuracy", function(t) return number(t.balanced_accuracy) end },
            { "MCC", function(t) return number(t.mcc) end },
            { "TP/TN/FP/FN", function(t) return counts("%d/%d/%d/%d", t.tp, t.tn, t.fp, t.fn) end } },
  squad_v2 = { { "EM", function(t) return number(t.em) end }, { "F1", function(t) return number(t.f1) end },
               { "HasAns EM", function(t) return number(part(t, "has_answer").em) end },
               { "HasAns F1", function(t) return number(part(t, "has_answer").f1) end },
               { "NoAns", function(t) return number(part(t, "no_answer").accuracy) end },
               { "AvNA", function(t) return number(t.avna) end } },
  openmath = { { "parsed", function(t) return counts("%d/%d", t.parsed, t.asked) end },
               { "mean |difference| of those", function(t) return number(t.mean_absolute_difference, "%.4g") end } },
}

--- The table of one question set: a row for each result that has it.
function report.task_table(name, results)
  local header, rows = { "model", "n", "correct", "accuracy (95 %)", "boxed" }, {}
  local own = OWN[name] or {}
  for _, column in ipairs(own) do header[#header + 1] = column[1] end
  for _, r in ipairs(results) do
    local t = r.tasks[name]
    if t then
      local row = { r.name, tostring(t.n), tostring(t.correct), report.share(t.accuracy, t.interval),
                    report.share(t.format_compliance) }
      for _, column in ipairs(own) do row[#row + 1] = column[2](t) end
      rows[#rows + 1] = row
    end
  end
  return { kind = "table", header = header, rows = rows, align = "lrrlr" .. ("r"):rep(#own) }
end

--- A heading and a table for each question set that any of the results has.
-- @return blocks
function report.task_tables(results)
  local blocks = {}
  for _, name in ipairs(task_order(results)) do
    local known = tasks[name]
    blocks[#blocks + 1] = { kind = "heading", level = 3, text = type(known) == "table" and known.title or name }
    blocks[#blocks + 1] = report.task_table(name, results)
  end
  return blocks
end

-- Results by their group, in the order of the first of each; all in one where they have none.
local function grouped(results)
  local groups, index = {}, {}
  for _, r in ipairs(results) do
    local key = r.group or ""
    if not index[key] then
      groups[#groups + 1] = { label = r.group, results = {} }
      index[key] = groups[#groups]
    end
    table.insert(index[key].results, r)
  end
  return groups
end

local function as_points(r) return report.points(r.value / 100, { r.low / 100, r.high / 100 }) end

-- Accuracy of every result, and where compared has more than nothing, points against the baseline.
local function interval_charts(results, compared)
  local absolute, differences, any = {}, {}, false
  for i, g in ipairs(grouped(results)) do
    local rows, changes = {}, {}
    absolute[i] = { label = g.label, rows = rows }
    differences[i] = { label = g.label, rows = changes, mark = 0 }
    for j, r in ipairs(g.results) do
      local c, label, colour = compared[r], r.short or r.name, svg.colour(j)
      rows[j] = { label = label, value = 100 * r.accuracy, low = 100 * r.interval[1], high = 100 * r.interval[2],
                  colour = colour }
      if c then
        changes[#changes + 1] = { label = label, value = 100 * c.delta, low = 100 * c.interval[1],
                                  high = 100 * c.interval[2], colour = colour }
        any = true
      else
        absolute[i].mark = 100 * r.accuracy
      end
    end
  end
  local charts = { svg.intervals("Accuracy with 95 % intervals; dashed: the baseline", absolute, { unit = " %" }) }
  if any then
    charts[2] = svg.intervals("Points against the baseline, paired by question", differences, { format = as_points })
  end
  return charts
end

--- Accuracy with intervals, differences from the baseline, and size against accuracy.
-- @param results may have group, the heading under which they stand, and short, their label there
-- @param compared table  result -> what wane.compare gave for it; baselines have none
-- @return blocks
function report.charts(results, compared)
  local blocks, points = {}, {}
  for i, chart in ipairs(interval_charts(results, compared)) do blocks[i] = { kind = "chart", svg = chart } end
  for _, r in ipairs(results) do
    if r.bytes then
      points[#points + 1] = { x = r.bytes / 2 ^ 20, y = 100 * r.accuracy, label = r.short or r.name, group = r.group }
    end
  end
  if #points > 1 then
    blocks[#blocks + 1] = { kind = "chart", svg = svg.scatter("Size against accuracy", points,
      "MiB of weights in the files", "accuracy, %") }
  end
  return blocks
end

local function layer_table(name, layers)
  local rows = {}
  for i, l in ipairs(layers) do
    rows[i] = { l.name, number(l.error, "%.4f"), number(l.rtn_error, "%.4f"), number(l.damp, "%.3g"), l.fallback or "",
                number(l.seconds, "%.3f") }
  end
  return { kind = "fold", summary = ("%s: %d matrices"):format(name, #layers), blocks = {
    { kind = "table", align = "lrrrlr", rows = rows,
      header = { "matrix", "error", "round to nearest's", "damping", "fallback", "seconds" } } } }
end

-- where each layer's first matrix stands
local function layer_marks(layers)
  local marks, last = {}, nil
  for i, l in ipairs(layers) do
    local layer = tostring(l.name):match("layers%.(%d+)%.")
    if layer and layer ~= last then
      marks[#marks + 1] = { at = i, label = layer }
      last = layer
    end
  end
  return marks[1] and marks or nil
end

local function values(layers, field)
  local list = {}
  for i, l in ipairs(layers) do list[i] = l[field] or false end
  return list
end

--- Relative output error of each matrix beside round-to-nearest's: a chart of all methods, and the tables behind it.
-- @param title string
-- @param results those with layers = { { name, error, rtn_error, damp, fallback, seconds } } are shown
-- @return blocks
function report.layers(title, results)
  local series, blocks, marks = {}, {}, nil
  for i, r in ipairs(results) do
    if r.layers and r.layers[1] then
      marks = marks or layer_marks(r.layers)
      if not series[1] then
        series[1] = { label = "round to nearest", values = values(r.layers, "rtn_error"), reference = true }
      end
      series[#series + 1] = { label = r.short or r.name, values = values(r.layers, "error"), colour = svg.colour(i) }
      blocks[#blocks + 1] = layer_table(r.name, r.layers)
    end
  end
  if not series[1] then return {} end
  table.insert(blocks, 1, { kind = "chart", svg = svg.lines(title, series,
    marks and "layer, with its seven matrices in their order" or "matrix", "relative error of the outputs", marks) })
  return blocks
end

--- The questions whose answer changed between right and wrong, folded; everywhere: in Markdown too.
function report.flips(c, everywhere)
  local rows = {}
  for i, f in ipairs(c.flips) do
    rows[i] = { f.task, tostring(f.line), tostring(f.gold), f.was or "(no box)", f.now or "(no box)" }
  end
  return { kind = "fold", summary = ("%s: %d questions lost, %d gained"):format(c.name, c.lost, c.gained),
           everywhere = everywhere, blocks = { rows[1] and { kind = "table", rows = rows, align = "lrwww",
             header = { "set", "line", "right", "baseline said", "now" } } } }
end

local function add_all(blocks, more) return table.move(more, 1, #more, #blocks + 1, blocks) end

local function heading(text) return { kind = "heading", level = 2, text = text } end

local METHOD = "Intervals are 95 %: Wilson's for shares, Agresti and Min's for paired differences; p is McNemar's "
  .. "exact test against the baseline on the same questions. Milliseconds are an answer's, within its batch."

--- How the figures of a page were made.
report.method = { kind = "text", class = "note", text = METHOD }

--- The blocks of a page over results; o.baseline's index says what the others are compared with.
-- @return blocks, { index = comparison }
function report.blocks(results, o)
  local baseline, compared, of_result = results[o.baseline], {}, {}
  for i, r in ipairs(results) do
    if i ~= o.baseline then
      compared[i] = compare(baseline, r)
      of_result[r] = compared[i]
    end
  end
  local blocks = { { kind = "heading", level = 1, text = o.title },
                   { kind = "text", text = ("wane %s on %s, %s; baseline: %s."):format(core.version,
                     (baseline.hardware or {}).device or "an unknown device", baseline.time or "", baseline.name) } }
  local warned = {}
  for _, r in ipairs(results) do
    for _, w in ipairs(r.warnings or {}) do warned[#warned + 1] = r.name .. ": " .. w end
  end
  if #warned > 0 then blocks[#blocks + 1] = { kind = "list", items = warned } end
  blocks[#blocks + 1] = overview(results, compared)
  blocks[#blocks + 1] = report.method
  add_all(blocks, report.charts(results, of_result))
  blocks[#blocks + 1] = heading("Set by set")
  add_all(blocks, report.task_tables(results))
  local layers = report.layers("Error of each matrix", results)
  if layers[1] then
    blocks[#blocks + 1] = heading("What quantizing cost, matrix by matrix")
    add_all(blocks, layers)
  end
  if next(compared) then blocks[#blocks + 1] = heading("Answers that changed") end
  for i = 1, #results do
    if compared[i] then blocks[#blocks + 1] = report.flips(compared[i], true) end
  end
  return blocks, compared
end

--- "html", "md" or "json" where a page can be written to a file of that name; nil otherwise.
function report.ending(path)
  local ending = path:match("%.(%w+)$")
  return (ending == "html" or ending == "md" or ending == "json") and ending or nil
end

--- Writes blocks to a file by its ending.
function report.write(path, title, blocks, data)
  local ending = report.ending(path)
  if ending == "html" then core.files.write(path, document.html(title, blocks))
  elseif ending == "md" then core.files.write(path, document.markdown(blocks))
  else core.files.write(path, core.json.encode(data, { indent = 2 }) .. "\n") end
end

--- One page over several results, compared with the first.
-- @param results list of what wane.evaluate gave, or wane.results.read
-- @param given { out = "report.html", title =, baseline = 1 }
-- @return string  the page as Markdown, also where a file was written
-- @error io, format (two results have no question in common)
local function write_report(results, given)
  local o = options.check(spec, given or {}, "wane.report")
  if type(results) ~= "table" or not results[1] then error("wane.report takes a list of results", 2) end
  if not results[o.baseline] then error(("there is no result %d to compare with"):format(o.baseline), 2) end
  if o.out and not report.ending(o.out) then error(("out = %q must end in .md, .html or .json"):format(o.out), 2) end
  local blocks, compared = report.blocks(results, o)
  if o.out then
    local data = { title = o.title, results = core.json.array {}, compared = core.json.array {} }
    for i, r in ipairs(results) do
      data.results[i], data.compared[i] = require "wane.results".page(r), compared[i] or core.json.null
    end
    report.write(o.out, o.title, blocks, data)
  end
  return document.markdown(blocks)
end

return setmetatable(report, { __call = function(_, ...) return write_report(...) end })
