--- wane.tokenizer: text to token ids and back, as the model's own tokenizer.json says.
-- The methods are C (runtime/bind/tokenizer.c); ids are the file's, from 0.
local core = require "wane.core"

--- Reads a tokenizer: local tokenizer = wane.tokenizer "examples/models/lune-5m"
-- @param path a tokenizer.json, or the folder that holds it
-- @return a tokenizer: t:encode(text), t:decode(ids), t:token(id), t:id(content), #t
-- @error io, format (a file that contradicts itself), unsupported (a component wane does not know)
return function(path) return core.tokenizer.load(path) end
