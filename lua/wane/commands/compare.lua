--- wane compare BASELINE.json RESULT.json: what changed between two evaluations, and whether it could be chance.
local core = require "wane.core"

local function print_comparison(c)
  local report = require "wane.report"
  print(("%s against %s: %s points (95 %%), p = %.3f, n = %d; %d lost, %d gained: %s"):format(c.name, c.baseline,
    report.points(c.delta, c.interval), c.p, c.n, c.lost, c.gained, c.verdict))
  if c.unpaired > 0 then io.stderr:write(("wane: %d questions are in one of the two alone\n"):format(c.unpaired)) end
  for _, f in ipairs(c.flips) do
    print(("  %s:%d  right %s  was %s  now %s"):format(f.task, f.line, tostring(f.gold), f.was or "(no box)",
      f.now or "(no box)"))
  end
end

return {
  summary = "compare two evaluations, question by question",
  arguments = { { name = "baseline", doc = "JSON of wane eval --out" }, { name = "result", doc = "the other one" } },
  options = {
    { name = "gate", kind = "number", least = 0,
      doc = "exit code 8 where more points than this are lost, beyond chance" },
  },
  json = true,
  run = function(o)
    local compare = require "wane.compare"
    local results = require "wane.results"
    local c = compare(results.read(o.baseline), results.read(o.result))
    if o.json then print(core.json.encode(c, { indent = 2 })) else print_comparison(c) end
    if o.gate and c.interval[2] < -o.gate / 100 then return 8 end
    return 0
  end,
}
