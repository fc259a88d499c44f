--- The end of a study: its status table, the success criteria and the verdict, each with its numbers and n.
-- The bars are the study's own. A share is held against a bar by its interval: above it met, below it not met,
-- across it cannot tell.
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

local function best(cells, share, count)
  local top
  for _, c in ipairs(cells) do
    if c.n and c.n > 0 and (not top or share(c) > share(top)) then top = c end
  end
  if not top then return nil end
  return top, statistics.wilson(count(top), top.n)
end

local function held(interval, bar)
  if interval[1] > bar then return "met" end
  if interval[2] < bar then return "not met" end
  return "cannot tell"
end

local function accuracy(c) return c.accuracy end
local function compliance(c) return c.format_compliance end
local function correct(c) return c.correct end
local function boxed(c) return math.floor(c.format_compliance * c.n + 0.5) end

local function bar_on(cells, what, share, count, bar)
  local name = ("%s of a quantized model above %d %%"):format(what, 100 * bar)
  local top, interval = best(cells, share, count)
  if not top then return { name = name, state = "not met", numbers = "no quantized model was evaluated" } end
  return { name = name, state = held(interval, bar), value = share(top), interval = interval, n = top.n,
           numbers = ("best %s: %s, n = %d"):format(top.name, report.share(share(top), interval), top.n) }
end

local function without_errors(cells)
  local clean, tried = {}, {}
  for _, c in ipairs(quantized(cells)) do
    tried[c.method] = tried[c.method] or { ok = 0, failed = 0 }
    if c.status == "ok" then tried[c.method].ok = tried[c.method].ok + 1
    elseif c.status == "error" then tried[c.method].failed = tried[c.method].failed + 1 end
  end
  for method, t in pairs(tried) do
    if t.ok > 0 and t.failed == 0 then clean[#clean + 1] = method end
  end
  table.sort(clean)
  return { name = "at least one method without technical errors", state = #clean > 0 and "met" or "not met",
           numbers = #clean > 0 and table.concat(clean, ", ") or "every method failed somewhere" }
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
           numbers = ("best %s: %s points, p = %.3f, n = %d"):format(top.name,
             report.points(top.delta, top.delta_interval), top.p, top.n) }
end

local function memory(cells)
  local short = {}
  for _, c in ipairs(cells) do
    if c.status == "oom" and not (c.error or ""):find("^not tried") then short[#short + 1] = c.name end
  end
  return { name = "no out of memory", state = #short == 0 and "met" or "not met",
           numbers = #short == 0 and ("%d cells"):format(#cells) or table.concat(short, ", ") }
end

--- Holds the cells against the study's bars.
-- @return criteria { { group, name, state, numbers } }, verdict { state, text }
function verdict.judge(cells)
  local ok = quantized(cells, "ok")
  local criteria = {
    bar_on(ok, "accuracy", accuracy, correct, 0.20),
    without_errors(cells),
    bar_on(ok, "format compliance", compliance, boxed, 0.50),
    keeps_baseline(cells),
    bar_on(ok, "accuracy", accuracy, correct, 0.60),
    bar_on(ok, "format compliance", compliance, boxed, 0.80),
    memory(cells),
  }
  local groups = { "hypothesis", "hypothesis", "hypothesis", "against the baseline", "success", "success", "success" }
  local state, n = "confirmed", 0
  for i, c in ipairs(criteria) do
    c.group = groups[i]
    n = math.max(n, c.n or 0)
    if c.group == "hypothesis" then
      if c.state == "not met" then state = "refuted"
      elseif c.state == "cannot tell" and state ~= "refuted" then state = "undecided" end
    end
  end
  local first = criteria[1]
  return criteria, { state = state,
    text = ("The hypothesis, that a model survives the loss of bits, is %s: %s; %s; %s (n = %d).")
    :format(state, first.numbers, criteria[2].numbers, criteria[3].numbers, n) }
end

local function cell_row(c)
  if c.status ~= "ok" then
    return { c.model, c.method, c.status, "", "", "", "", "", "", ("%.1f"):format(c.seconds), c.error }
  end
  return { c.model, c.method, c.status, tostring(c.n), report.share(c.accuracy, c.interval),
           c.delta and report.points(c.delta, c.delta_interval) or "", report.share(c.format_compliance),
           core.device.format_bytes(c.bytes), ("%.2f"):format(c.bits_per_weight), ("%.1f"):format(c.seconds), "" }
end

--- The status table: one row a cell.
function verdict.table(cells)
  local rows = {}
  for i, c in ipairs(cells) do rows[i] = cell_row(c) end
  return { kind = "table", align = "lllrrrrrrrw", rows = rows,
           header = { "model", "method", "status", "n", "accuracy (95 %)", "against baseline", "boxed", "size",
                      "bits/weight", "seconds", "error" } }
end

local function blocks_of(run)
  local info = core.device.info()
  local criteria = {}
  for i, c in ipairs(run.criteria) do criteria[i] = { c.group, c.name, c.state, c.numbers } end
  return {
    { kind = "heading", level = 1, text = "What small weights cost" },
    { kind = "text", text = ("wane %s on %s%s."):format(core.version, info.description,
      info.memory and ", memory = " .. core.device.format_bytes(info.memory) or "") },
    verdict.table(run.cells),
    { kind = "heading", level = 2, text = "Criteria" },
    { kind = "table", header = { "", "criterion", "state", "numbers" }, rows = criteria, align = "lllw" },
    { kind = "heading", level = 2, text = "Verdict" },
    { kind = "text", text = run.verdict.text },
  }
end

--- Writes status.md, status.json and report.html into the run's folder.
-- @return string  the Markdown
function verdict.write(run)
  local blocks = blocks_of(run)
  local markdown = document.markdown(blocks)
  local page = table.move(blocks, 1, #blocks, 1, {})
  if #run.results > 0 then
    for i, r in ipairs(run.results) do
      for _, c in ipairs(run.cells) do
        if c.name == r.name then run.results[i].group = c.model end
      end
    end
    for _, chart in ipairs(report.charts(run.results)) do page[#page + 1] = chart end
    page[#page + 1] = { kind = "heading", level = 2, text = "What quantizing cost, matrix by matrix" }
    for _, r in ipairs(run.results) do
      if r.layers then
        for _, block in ipairs(report.layers(r.name, r.layers)) do page[#page + 1] = block end
      end
    end
  end
  core.files.write(run.out .. "/status.md", markdown)
  core.files.write(run.out .. "/report.html", document.html("wane: what small weights cost", page))
  local info = core.device.info()
  core.files.write(run.out .. "/status.json", core.json.encode({
    wane = core.version, device = info.description, memory = info.memory, time = os.date("!%Y-%m-%dT%H:%M:%SZ"),
    cells = run.cells, criteria = run.criteria, verdict = run.verdict,
  }, { indent = 2 }) .. "\n")
  return markdown
end

return verdict
