--- The end of a study: its criteria and the verdict, each with its numbers and n, and the page that shows them.
-- The bars are the study's own. A share is held against a bar by its interval: above it met, below it not met,
-- across it cannot tell. The best of several quantized models is named; being the best of several, its interval is a
-- little kinder than that of one chosen beforehand.
local core = require "wane.core"
local document = require "wane.document"
local report = require "wane.report"
local statistics = require "wane.statistics"

local verdict = {}

local function quantized(cells, status)
  local list = {}
  for _, c in ipairs(cells) do
    if c.method ~= "none" and (not status or c.status == status) then list[#list + 1] = c end
  end
  return list
end

local function held(interval, bar)
  if interval[1] > bar then return "met" end
  if interval[2] < bar then return "not met" end
  return "cannot tell"
end

local MEASURES = {
  accuracy = function(c) return c.correct end,
  ["format compliance"] = function(c) return math.floor(c.format_compliance * c.n + 0.5) end,
}

local function bar_on(cells, measure, bar)
  local name = ("%s above %d %%"):format(measure, 100 * bar)
  local top, most
  for _, c in ipairs(cells) do
    local count = MEASURES[measure](c)
    if not top or count / c.n > most / top.n then top, most = c, count end
  end
  if not top then return { name = name, state = "not met", numbers = "no quantized model was evaluated" } end
  local interval = statistics.wilson(most, top.n)
  return { name = name, state = held(interval, bar), value = most / top.n, interval = interval, n = top.n,
           best = top.name, numbers = ("%s: %s, n = %d"):format(top.name, report.share(most / top.n, interval), top.n) }
end

local function without_errors(cells)
  local clean, tried, order = {}, {}, {}
  for _, c in ipairs(quantized(cells)) do
    if not tried[c.method] then
      tried[c.method] = { ok = 0, error = 0, oom = 0 }
      order[#order + 1] = c.method
    end
    tried[c.method][c.status] = tried[c.method][c.status] + 1
  end
  for _, method in ipairs(order) do
    if tried[method].ok > 0 and tried[method].error == 0 then clean[#clean + 1] = method end
  end
  local none = #order == 0 and "no method was tried" or "no method came through without one"
  return { name = "a method without technical errors", state = #clean > 0 and "met" or "not met",
           numbers = #clean > 0 and table.concat(clean, ", ") or none }
end

local LOSS = 0.05 -- the bar relative to the baseline: at most five points lost, as far as can be told

local function keeps_baseline(cells)
  local top
  for _, c in ipairs(quantized(cells, "ok")) do
    if c.delta and (not top or c.delta_interval[1] > top.delta_interval[1]) then top = c end
  end
  local name = ("at most %d points below the model's own baseline"):format(100 * LOSS)
  if not top then return { name = name, state = "not met", numbers = "no pair to compare" } end
  local low, high = top.delta_interval[1], top.delta_interval[2]
  return { name = name, state = low >= -LOSS and "met" or high < -LOSS and "not met" or "cannot tell", n = top.n,
           best = top.name, numbers = ("%s: %s points, p = %.3f, n = %d"):format(top.name,
             report.points(top.delta, top.delta_interval), top.p, top.n) }
end

local function memory(cells)
  local short, tried = {}, 0
  for _, c in ipairs(cells) do
    if not c.skipped then
      tried = tried + 1
      if c.status == "oom" then short[#short + 1] = c.name end
    end
  end
  return { name = "no out of memory", state = #short == 0 and "met" or "not met",
           numbers = #short == 0 and ("%d cells"):format(tried) or "out of memory: " .. table.concat(short, ", ") }
end

local function capital(text) return (text:gsub("^%l", string.upper)) end

-- the hypothesis holds where all its criteria do, and falls with any of them
local function conclude(criteria)
  local state, sentences = "confirmed", {}
  for _, c in ipairs(criteria) do
    if c.group == "hypothesis" then
      if c.state == "not met" then state = "refuted"
      elseif c.state == "cannot tell" and state ~= "refuted" then state = "undecided" end
      sentences[#sentences + 1] = ("%s: %s (%s)."):format(capital(c.name), c.state, c.numbers)
    end
  end
  return { state = state, text = ("The hypothesis that small weights still answer is %s. %s"):format(state,
    table.concat(sentences, " ")) }
end

--- Holds the cells against the study's bars.
-- @return criteria { { group, name, state, numbers, n, interval } }, verdict { state, text }
function verdict.judge(cells)
  local ok = quantized(cells, "ok")
  local criteria = {
    bar_on(ok, "accuracy", 0.20),
    without_errors(cells),
    bar_on(ok, "format compliance", 0.50),
    keeps_baseline(cells),
    bar_on(ok, "accuracy", 0.60),
    bar_on(ok, "format compliance", 0.80),
    memory(cells),
  }
  local groups = { "hypothesis", "hypothesis", "hypothesis", "baseline", "success", "success", "success" }
  for i, c in ipairs(criteria) do c.group = groups[i] end
  return criteria, conclude(criteria)
end

local function unique(cells, field)
  local list, seen = {}, {}
  for _, c in ipairs(cells) do
    if not seen[c[field]] then
      seen[c[field]] = true
      list[#list + 1] = c[field]
    end
  end
  return list
end

local function brief(c)
  if not c then return "" end
  if c.skipped then return "not tried" end
  if c.status == "oom" then return "out of memory" end
  if c.status == "error" then return "error" end
  local delta = c.delta and (" (%+.1f)"):format(100 * c.delta) or ""
  return ("%.1f %%%s"):format(100 * c.accuracy, delta)
end

--- Model by method: accuracy, and in brackets the points against the model's own baseline.
function verdict.matrix(cells)
  local models, columns, at, rows = unique(cells, "model"), unique(cells, "method"), {}, {}
  for _, c in ipairs(cells) do at[c.model .. "\0" .. c.method] = c end
  local header = { "model" }
  for i, method in ipairs(columns) do header[i + 1] = method == "none" and "baseline" or method end
  for i, model in ipairs(models) do
    rows[i] = { model }
    for j, method in ipairs(columns) do rows[i][j + 1] = brief(at[model .. "\0" .. method]) end
  end
  return { kind = "table", header = header, rows = rows, align = "l" .. ("r"):rep(#columns) }
end

local function cell_row(c)
  local row = { c.model, c.method, c.skipped and "not tried" or c.status }
  if c.status == "ok" then
    table.move({ tostring(c.n), report.share(c.accuracy, c.interval),
      c.delta and report.points(c.delta, c.delta_interval) or "", report.number(c.p),
      report.share(c.format_compliance), report.number(c.divergence, "%.4f"), core.device.format_bytes(c.bytes),
      ("%.2f"):format(c.bits_per_weight),
      core.device.format_bytes(math.max(c.peak_bytes, c.quantize_peak_bytes or 0)) }, 1, 9, 4, row)
  end
  row[13] = ("%.1f"):format(c.seconds)
  for i = 4, 12 do row[i] = row[i] or "" end
  return row
end

--- Every cell with all its figures: one row a cell.
function verdict.table(cells)
  local rows = {}
  for i, c in ipairs(cells) do rows[i] = cell_row(c) end
  return { kind = "table", align = "llsrrrrrrrrrr", rows = rows,
           header = { "model", "method", "status", "n", "accuracy (95 %)", "points (95 %)", "p", "boxed", "KL, nats",
                      "size", "bits", "peak", "s" } }
end

-- what went wrong, and what the evaluations warn of
local function notes(cells)
  local items = {}
  for _, c in ipairs(cells) do
    if c.error and not c.skipped then items[#items + 1] = ("%s: %s"):format(c.name, c.error) end
    for _, warning in ipairs(c.warnings or {}) do items[#items + 1] = ("%s: %s"):format(c.name, warning) end
  end
  return items
end

local function heading(text) return { kind = "heading", level = 2, text = text } end

local LEGEND = "Points and p: against the model's own baseline, question by question (Agresti and Min; McNemar's exact "
  .. "test). Boxed: answers with a well-formed box. KL: divergence of the next token from the source's, on 512 tokens "
  .. "of calibration text. Bits: of the files, for each weight. Peak: the most memory that was taken on the device at "
  .. "once, while quantizing or evaluating."

local function blocks_of(run)
  local info, criteria, items = core.device.info(), {}, notes(run.cells)
  for i, c in ipairs(run.criteria) do criteria[i] = { c.group, c.name, c.state, c.numbers } end
  local blocks = {
    { kind = "heading", level = 1, text = "What small weights cost" },
    { kind = "text", class = "note", text = ("wane %s on %s%s, %s."):format(core.version, info.description,
      info.memory and ", memory = " .. core.device.format_bytes(info.memory) or "", os.date("!%Y-%m-%d %H:%M UTC")) },
    { kind = "text", class = "lead", text = run.verdict.text },
    verdict.matrix(run.cells),
    heading("Criteria"),
    { kind = "table", header = { "for", "criterion", "state", "the best quantized model" }, rows = criteria,
      align = "llsw" },
    heading("Cells"),
    verdict.table(run.cells),
    { kind = "text", class = "note", text = LEGEND },
  }
  if items[1] then blocks[#blocks + 1] = { kind = "list", items = items } end
  return blocks
end

local function add_all(blocks, more) return table.move(more, 1, #more, #blocks + 1, blocks) end

-- results of each model, in order
local function by_model(run)
  local list, index = {}, {}
  for _, r in ipairs(run.results) do
    if not index[r.group] then
      index[r.group] = { name = r.group, results = {} }
      list[#list + 1] = index[r.group]
    end
    table.insert(index[r.group].results, r)
  end
  return list
end

-- what only the HTML has: charts, sets, layers, and the questions that changed sides
local function details(run)
  local blocks = { heading("Charts") }
  add_all(blocks, report.charts(run.results, run.compared))
  blocks[#blocks + 1] = heading("Set by set")
  add_all(blocks, report.task_tables(run.results))
  blocks[#blocks + 1] = heading("What quantizing cost, matrix by matrix")
  for _, model in ipairs(by_model(run)) do
    add_all(blocks, report.layers("Error of each matrix of " .. model.name, model.results))
  end
  blocks[#blocks + 1] = heading("Answers that changed")
  for _, r in ipairs(run.results) do
    if run.compared[r] then blocks[#blocks + 1] = report.flips(run.compared[r]) end
  end
  return blocks
end

-- what every cell has in status.json, null where it has none
local ALWAYS = { "n", "accuracy", "format_compliance", "bytes", "bits_per_weight", "seconds", "error" }

local function cells_for_json(cells)
  local list = core.json.array {}
  for i, c in ipairs(cells) do
    list[i] = {}
    for key, value in pairs(c) do list[i][key] = value end
    for _, key in ipairs(ALWAYS) do
      if list[i][key] == nil then list[i][key] = core.json.null end
    end
  end
  return list
end

--- Writes status.md, status.json and report.html into the run's folder.
-- @return string  the Markdown
function verdict.write(run)
  local blocks = blocks_of(run)
  local markdown = document.markdown(blocks)
  local page = table.move(blocks, 1, #blocks, 1, {})
  if #run.results > 0 then add_all(page, details(run)) end
  core.files.write(run.out .. "/status.md", markdown)
  core.files.write(run.out .. "/report.html", document.html("wane: what small weights cost", page))
  local info = core.device.info()
  core.files.write(run.out .. "/status.json", core.json.encode({
    wane = core.version, device = info.description, memory = info.memory, time = os.date("!%Y-%m-%dT%H:%M:%SZ"),
    cells = cells_for_json(run.cells), criteria = run.criteria, verdict = run.verdict,
  }, { indent = 2 }) .. "\n")
  return markdown
end

return verdict
