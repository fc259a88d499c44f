--- wane.load(folder) -> model. See model.lua.
return require "wane.model".load
