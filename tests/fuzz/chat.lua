-- chat.lua - tokenizer_config.json, a byte 0, chat_template.jinja, a byte 0, messages: a prompt or a refusal.
local folder = ... -- this process's own
local chat = require "wane.chat"
local core = require "wane.core"
local rendering = require "wane.template.rendering"

rendering.limits.steps, rendering.limits.output, rendering.limits.range = 200000, 1 << 20, 10000

local function put(name, text)
  local path = folder .. "/" .. name
  if not text then return os.remove(path) end
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

local plain = { { role = "user", content = "Hi" } }

-- what chat.render takes without a complaint about its own arguments
local function messages_of(text)
  local ok, list = pcall(core.json.decode, text)
  if not ok or type(list) ~= "table" or type(list[1]) ~= "table" then return plain end
  for i = 1, #list do
    local m = list[i]
    if type(m) ~= "table" or type(m.role) ~= "string" or type(m.content) ~= "string" then return plain end
  end
  return list
end

return function(input)
  local parts = {}
  for part in (input .. "\0"):gmatch "([^\0]*)\0" do parts[#parts + 1] = part end
  put("tokenizer_config.json", parts[1] ~= "" and parts[1] or nil)
  put("chat_template.jinja", parts[2] ~= "" and parts[2] or nil)
  put("special_tokens_map.json", parts[4])
  local found = chat.find(folder)
  local text = chat.render(found, messages_of(parts[3] or ""), { add_generation_prompt = true })
  assert(type(text) == "string", "no text")
end
