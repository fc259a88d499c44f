--- wane help [NAME]: a command, or a name of the library.
return {
  summary = "tell about a command, a module or a function: wane help quantize",
  raw = true,
  help = "Usage: wane help [NAME]\n\nNAME is a command (quantize) or a name of the library (tensor.zeros).",
  run = function(arguments)
    local cli = require "wane.cli"
    local name = arguments[1]
    if not name then return print(cli.usage()) end
    for _, command in ipairs(cli.commands()) do
      if command == name then return print(cli.help(name)) end
    end
    local ok, text = pcall(require("wane.help").about, name)
    if not ok then require("wane.options").fail { code = "usage", message = text } end
    print(text)
  end,
}
