--- wane compare BASELINE.json RESULT.json: what changed between two evaluations, and whether it could be chance.
local core = require "wane.core"

-- what `wane eval --out` wrote, as wane.compare takes it
local function read(path)
  local page = core.json.decode(core.files.read(path))
  if type(page) ~= "table" or type(page.samples) ~= "table" then
    error(setmetatable({ code = "format", path = path, op = "compare",
      message = path .. ": not a report of wane eval (no samples); write one with wane eval DIR --out " .. path },
      core.error), 0)
  end
  return { name = page.model, samples = page.samples }
end

return {
  summary = "compare two evaluations, question by question",
  arguments = { { name = "baseline", doc = "JSON of wane eval --out" }, { name = "result", doc = "the other one" } },
  options = {
    { name = "gate", kind = "number", doc = "exit code 8 where more points than this are lost, beyond chance" },
  },
  json = true,
  run = function(o)
    local report = require "wane.report"
    local compare = require "wane.compare"
    local c = compare(read(o.baseline), read(o.result))
    if o.json then
      print(core.json.encode(c, { indent = 2 }))
    else
      print(("%s against %s: %s points (95 %%), p = %.3f, n = %d; %d lost, %d gained: %s"):format(c.name, c.baseline,
        report.points(c.delta, c.interval), c.p, c.n, c.lost, c.gained, c.verdict))
      for _, f in ipairs(c.flips) do
        print(("  %s:%d  right %s  was %s  now %s"):format(f.task, f.line, tostring(f.gold), f.was or "(no box)",
          f.now or "(no box)"))
      end
    end
    if o.gate and c.interval[2] < -o.gate / 100 then return 8 end
    return 0
  end,
}
