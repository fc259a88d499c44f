--- wane check DIR: everything that is wrong with a model's folder, and what wane can make of it.
local core = require "wane.core"

local SHOWN <const> = 20 -- problems on a terminal; --json has all

local function print_page(page, shown)
  print(shown(page.dir))
  for _, part in ipairs(page.parts) do print(("  %-11s %-8s %s"):format(part.name, part.state, part.text or "")) end
  for _, format in ipairs(page.quantize and page.quantize.formats or {}) do
    print(("    as %-18s %s"):format(format.name, format.text or "not: " .. format.why))
  end
  for i, problem in ipairs(page.problems) do
    if i > SHOWN then break end
    print("problem: " .. problem.message)
  end
  local rest = #page.problems - SHOWN + page.more
  if rest > 0 and #page.problems >= SHOWN then print(("and %d more"):format(rest)) end
  for _, text in ipairs(page.warnings) do print("note: " .. text) end
end

-- That of the first problem, as if it had been raised; 0 where there is none.
local function exit_code(page)
  local first = page.problems[1]
  return first and core.exit_code(setmetatable({ code = first.code, message = first.message }, core.error)) or 0
end

return {
  summary = "tell everything that is wrong with a model's folder",
  arguments = { { name = "model", doc = "folder of the model, or a Hub id that the cache has" } },
  options = require "wane.check".spec,
  json = true,
  run = function(o)
    local wane = require "wane"
    local page = wane.check(o.model, { deep = o.deep, verify = o.verify })
    if o.json then
      local shown = wane.fingerprint.shown -- JSON is text, and a path may be any bytes
      page.dir = shown(page.dir)
      for _, problem in ipairs(page.problems) do problem.path = problem.path and shown(problem.path) end
      print(core.json.encode(page, { indent = 2 }))
    else
      print_page(page, wane.fingerprint.shown)
    end
    return exit_code(page)
  end,
}
