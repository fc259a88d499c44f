--- wane.convert(source, dir, { format = "awq" }): codes from one format to another. See formats.lua.
return require "wane.formats".convert
