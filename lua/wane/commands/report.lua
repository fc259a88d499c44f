--- wane report RESULT.json ... --out report.html: one page over several evaluations.
return {
  summary = "one page over several evaluations",
  arguments = { { name = "results", many = true, doc = "JSON files of wane eval --out; the first is the baseline" } },
  options = {
    { name = "out", kind = "string", doc = "report.html, report.md or report.json; Markdown on stdout otherwise" },
    { name = "title", kind = "string", default = "wane report", doc = "heading of the page" },
  },
  run = function(o)
    local options = require "wane.options"
    local report = require "wane.report"
    local results = require "wane.results"
    if o.out and not report.ending(o.out) then
      options.fail { code = "usage", message = ("report: --out %s must end in .html, .md or .json"):format(o.out) }
    end
    if o.out then require "wane.paths".check_writable(o.out) end
    local list = {}
    for i, path in ipairs(o.results) do list[i] = results.read(path) end
    local markdown = report(list, { out = o.out, title = o.title })
    if not o.out then print(markdown) end
    return 0
  end,
}
