--- wane report RESULT.json ... --out report.html: one page over several evaluations.
local core = require "wane.core"

-- a report of `wane eval --out` back in the form of a result
local function result_of(path)
  local page = core.json.decode(core.files.read(path))
  if type(page) ~= "table" or type(page.summary) ~= "table" or type(page.samples) ~= "table" then
    error(setmetatable({ code = "format", path = path, op = "report",
      message = path .. ": not a report of wane eval; write one with wane eval DIR --out " .. path }, core.error), 0)
  end
  local s = page.summary
  return {
    name = page.model, time = page.time, device = page.hardware and page.hardware.device, n = s.samples,
    correct = s.correct, accuracy = s.accuracy, interval = s.interval, format_compliance = s.format_compliance,
    latency = s.latency, tokens = s.tokens, warnings = s.warnings, flags = s.flags, order = s.data_sets,
    tasks = page.data_sets, samples = page.samples, quantization = page.quantization, bytes = page.bytes,
    bits_per_weight = page.bits_per_weight,
  }
end

return {
  summary = "one page over several evaluations",
  arguments = { { name = "results", many = true, doc = "JSON files of wane eval --out; the first is the baseline" } },
  options = {
    { name = "out", kind = "string", doc = "report.html, report.md or report.json; Markdown on stdout otherwise" },
    { name = "title", kind = "string", default = "wane report", doc = "heading of the page" },
  },
  run = function(o)
    local report = require "wane.report"
    local results = {}
    for i, path in ipairs(o.results) do results[i] = result_of(path) end
    local markdown = report(results, { out = o.out, title = o.title })
    if not o.out then print(markdown) end
    return 0
  end,
}
