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

--- "-1.2 (-2.9 to +0.5)": a difference of shares in points.
function report.points(value, interval)
  return ("%+.1f (%+.1f to %+.1f)"):format(100 * value, 100 * interval[1], 100 * interval[2])
end

local function size(result) return result.bytes and core.device.format_bytes(result.bytes) or "" end
local function bits(result) return result.bits_per_weight and ("%.2f"):format(result.bits_per_weight) or "" end

local function overview(results, compared)
  local rows = {}
  for i, r in ipairs(results) do
    local c = compared[i]
    rows[i] = { r.name, r.quantization and r.quantization.label or "none", tostring(r.n),
                report.share(r.accuracy, r.interval), c and report.points(c.delta, c.interval) or "baseline",
                c and ("%.3f"):format(c.p) or "", report.share(r.format_compliance), size(r), bits(r),
                ("%.0f"):format(r.latency.median or 0), ("%.1f"):format(r.tokens.mean or 0) }
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

local function number(value, format) return value and (format or "%.3f"):format(value) or "" end

-- The figures of each set beyond accuracy: what its metrics are called, and where they lie.
local OWN = {
  arc = { { "macro F1", function(t) return number(t.macro_f1) end } },
  boolq = { { "F1", function(t) return number(t.f1) end },
            { "balanced accuracy", function(t) return number(t.balanced_accuracy) end },
            { "MCC", function(t) return number(t.mcc) end },
            { "TP/TN/FP/FN", function(t) return ("%d/%d/%d/%d"):format(t.tp, t.tn, t.fp, t.fn) end } },
  squad_v2 = { { "EM", function(t) return number(t.em) end }, { "F1", function(t) return number(t.f1) end },
               { "HasAns EM", function(t) return number(t.has_answer.em) end },
               { "HasAns F1", function(t) return number(t.has_answer.f1) end },
               { "NoAns", function(t) return number(t.no_answer.accuracy) end },
               { "AvNA", function(t) return number(t.avna) end } },
  openmath = { { "parsed", function(t) return ("%d/%d"):format(t.parsed, t.asked) end },
               { "mean |difference| of those", function(t) return number(t.mean_absolute_difference, "%.4g") end } },
}

local function task_table(name, results)
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

--- Accuracy with intervals, and size against accuracy, of results.
-- @return blocks
function report.charts(results)
  local rows, points, groups, next_group = {}, {}, {}, 1
  for i, r in ipairs(results) do
    local family = r.group or r.name
    if not groups[family] then
      groups[family] = next_group
      next_group = next_group + 1
    end
    rows[i] = { label = r.name, value = 100 * r.accuracy, low = 100 * r.interval[1], high = 100 * r.interval[2],
                group = groups[family] }
    if r.bytes then
      points[#points + 1] = { x = r.bytes / 2 ^ 20, y = 100 * r.accuracy, label = r.name, group = groups[family] }
    end
  end
  local blocks = { { kind = "chart", svg = svg.intervals("Accuracy with 95 % intervals", rows, " %") } }
  if #points > 0 then
    blocks[2] = { kind = "chart", svg = svg.scatter("Size against accuracy", points, "MiB of weights on disk", "%") }
  end
  return blocks
end

--- Relative output error of each matrix beside round-to-nearest's: a chart and the table behind it.
-- @param name string
-- @param layers { { name, error, rtn_error, damp, fallback, seconds } }
-- @return blocks
function report.layers(name, layers)
  local own, rtn, rows = {}, {}, {}
  for i, l in ipairs(layers) do
    own[i], rtn[i] = l.error, l.rtn_error
    rows[i] = { l.name, number(l.error, "%.4f"), number(l.rtn_error, "%.4f"), number(l.damp, "%.3g"), l.fallback or "",
                number(l.seconds, "%.3f") }
  end
  return {
    { kind = "chart", svg = svg.lines("Error per matrix: " .. name, { { label = name, values = own },
      { label = "round to nearest", values = rtn } }, "matrix, in the order of the model", "relative output error") },
    { kind = "fold", summary = ("%s: %d matrices"):format(name, #layers), blocks = {
      { kind = "table", align = "lrrrlr", rows = rows,
        header = { "matrix", "error", "round to nearest's", "damping", "fallback", "seconds" } } } },
  }
end

local function flips(c)
  local rows = {}
  for i, f in ipairs(c.flips) do
    rows[i] = { f.task, tostring(f.line), tostring(f.gold), f.was or "(no box)", f.now or "(no box)" }
  end
  return { kind = "fold", summary = ("%s: %d questions lost, %d gained"):format(c.name, c.lost, c.gained),
           blocks = { { kind = "table", header = { "set", "line", "right", "baseline said", "now" }, rows = rows,
                        align = "lrwww" } } }
end

--- The blocks of a page over results; the baseline's index says what the others are compared with.
function report.blocks(results, o)
  local blocks = { { kind = "heading", level = 1, text = o.title } }
  local function add(b) blocks[#blocks + 1] = b end
  local baseline, compared = results[o.baseline], {}
  for i, r in ipairs(results) do
    if r ~= baseline then compared[i] = compare(baseline, r) end
  end
  add { kind = "text", text = ("wane %s on %s, %s. Intervals are 95 %% (Wilson; paired differences Agresti and Min); "
    .. "p is McNemar's exact test against %s."):format(core.version, baseline.device or "?", baseline.time or "",
    baseline.name) }
  local warned = {}
  for _, r in ipairs(results) do
    for _, w in ipairs(r.warnings or {}) do warned[#warned + 1] = r.name .. ": " .. w end
  end
  if #warned > 0 then add { kind = "list", items = warned } end
  add(overview(results, compared))
  for _, chart in ipairs(report.charts(results)) do add(chart) end
  for _, name in ipairs(task_order(results)) do
    add { kind = "heading", level = 2, text = tasks[name] and tasks[name].title or name }
    add(task_table(name, results))
  end
  local quantized = false
  for _, r in ipairs(results) do
    if r.layers then
      if not quantized then add { kind = "heading", level = 2, text = "What quantizing cost, matrix by matrix" } end
      quantized = true
      for _, block in ipairs(report.layers(r.name, r.layers)) do add(block) end
    end
  end
  if next(compared) then add { kind = "heading", level = 2, text = "Answers that changed" } end
  for i = 1, #results do
    if compared[i] then add(flips(compared[i])) end
  end
  return blocks, compared
end

--- Writes blocks to a file by its ending.
function report.write(path, title, blocks, data)
  local ending = path:match("%.(%w+)$")
  if ending == "html" then core.files.write(path, document.html(title, blocks))
  elseif ending == "md" then core.files.write(path, document.markdown(blocks))
  elseif ending == "json" then core.files.write(path, core.json.encode(data, { indent = 2 }) .. "\n")
  else error(("out = %q must end in .md, .html or .json"):format(path), 3) end
end

--- One page over several results, compared with the first.
-- @param results list of what wane.evaluate gave (or JSON read back)
-- @param given { out = "report.html", title =, baseline = 1 }
-- @return string  the page as Markdown, also where a file was written
local function write_report(results, given)
  local o = options.check(spec, given or {}, "wane.report")
  if type(results) ~= "table" or not results[1] then error("wane.report takes a list of results", 2) end
  if not results[o.baseline] then error(("there is no result %d to compare with"):format(o.baseline), 2) end
  local blocks, compared = report.blocks(results, o)
  if o.out then
    local data = { title = o.title, results = results, compared = {} }
    for i = 1, #results do data.compared[i] = compared[i] or core.json.null end
    report.write(o.out, o.title, blocks, data)
  end
  return document.markdown(blocks)
end

return setmetatable(report, { __call = function(_, ...) return write_report(...) end })
