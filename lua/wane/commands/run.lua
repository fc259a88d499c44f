--- wane run FILE [arguments]: what comes after the file is the recipe's own.
return {
  summary = "run a recipe",
  raw = true,
  help = [[
Usage: wane run FILE [arguments]

Runs a recipe, a Lua script; - reads it from stdin. The arguments are the recipe's own:
wane run recipes/fallback.lua --help tells which it takes. wane FILE.lua does the same.]],
  run = function(arguments)
    local file = table.remove(arguments, 1)
    if not file then require("wane.options").fail { code = "usage", message = "run needs a recipe: wane run FILE" } end
    return require("wane.cli").script(file, arguments)
  end,
}
