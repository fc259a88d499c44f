--- wane.tokenizer: text to token ids and back, as the model's own tokenizer.json says.
-- The methods are C (runtime/bind/tokenizer.c); ids are the file's, from 0.
local core = require "wane.core"

local templates = setmetatable({}, { __mode = "k" }) -- tokenizer -> what chat.find gave, read when first asked for

core.docs["tokenizer.chat"] = "tokenizer:chat(messages, { add_generation_prompt = false, enable_thinking, tools }) -> "
  .. "the prompt as text, by the chat template beside the tokenizer; raises format, unsupported"

--- The prompt that messages make by the model's own chat template; special tokens stand in it as text.
-- @param messages { { role = "user", content = "..." }, ... }
-- @param options see wane.chat
function core.tokenizer.methods.chat(self, messages, options)
  local chat = require "wane.chat"
  if not templates[self] then
    local path = self.path
    templates[self] = chat.find(core.files.kind(path) == "directory" and path or path:match("^(.*)/[^/]*$") or ".")
  end
  return chat.render(templates[self], messages, options)
end

--- Reads a tokenizer: local tokenizer = wane.tokenizer "examples/models/lune-5m"
-- @param path a tokenizer.json, or the folder that holds it
-- @return a tokenizer: t:encode(text), t:decode(ids), t:token(id), t:id(content), #t
-- @error io, format (a file that contradicts itself), unsupported (a component wane does not know)
return function(path) return core.tokenizer.load(path) end
