--- Two results on the same questions: what changed, and whether it could be chance.
local options = require "wane.options"
local statistics = require "wane.statistics"

local function by_id(result)
  local index = {}
  for _, sample in ipairs(result.samples) do index[sample.task .. sample.id] = sample end
  return index
end

local function paired(pairs_list)
  local lost, gained = {}, {}
  for _, pair in ipairs(pairs_list) do
    local before, now = pair[1], pair[2]
    if before.correct and not now.correct then lost[#lost + 1] = now
    elseif now.correct and not before.correct then gained[#gained + 1] = now end
  end
  local n = #pairs_list
  return {
    n = n, lost = #lost, gained = #gained,
    delta = n > 0 and (#gained - #lost) / n or 0.0,
    interval = statistics.paired(#lost, #gained, n),
    p = statistics.mcnemar(#lost, #gained),
  }, lost, gained
end

local function flip(sample, was)
  return { task = sample.task, id = sample.id, line = sample.line, gold = sample.gold, was = was,
           now = sample.extracted }
end

--- Compares a result with its baseline, question by question. A question asked twice counts once.
-- @param baseline a result of wane.evaluate
-- @param result another, over the same questions (what only one has is counted in `unpaired`)
-- @return { baseline, name, n, delta (share), interval, p (McNemar, exact), lost, gained, flips, tasks, unpaired,
--   verdict }
-- @error format where no question is in both
local function compare(baseline, result)
  for _, r in ipairs { baseline or false, result or false } do
    if type(r) ~= "table" or type(r.samples) ~= "table" then
      error("wane.compare takes two results of wane.evaluate, or of wane.results.read", 2)
    end
  end
  local before, now = by_id(baseline), by_id(result)
  local all, by_task, unpaired = {}, {}, 0
  local order = {}
  for key, b in pairs(before) do
    if now[key] then order[#order + 1] = key else unpaired = unpaired + 1 end
    by_task[b.task] = by_task[b.task] or {}
  end
  for key in pairs(now) do
    if not before[key] then unpaired = unpaired + 1 end
  end
  if #order == 0 then
    options.fail { code = "format", op = "compare", message = ("%s and %s have no question in common; evaluate both on "
      .. "the same data"):format(baseline.name, result.name) }
  end
  table.sort(order, function(x, y)
    local a, b = before[x], before[y]
    if a.task ~= b.task then return a.task < b.task end
    return a.line < b.line
  end)
  for i, key in ipairs(order) do
    local pair = { before[key], now[key] }
    all[i] = pair
    local list = by_task[before[key].task]
    list[#list + 1] = pair
  end
  local out, lost, gained = paired(all)
  out.baseline, out.name, out.unpaired, out.tasks, out.flips = baseline.name, result.name, unpaired, {}, {}
  for name, list in pairs(by_task) do
    if #list > 0 then out.tasks[name] = (paired(list)) end
  end
  for _, s in ipairs(lost) do out.flips[#out.flips + 1] = flip(s, before[s.task .. s.id].extracted) end
  for _, s in ipairs(gained) do out.flips[#out.flips + 1] = flip(s, before[s.task .. s.id].extracted) end
  if out.p < 0.05 then
    out.verdict = out.delta < 0 and "worse" or "better"
  else
    out.verdict = "no difference shown"
  end
  return out
end

return compare
