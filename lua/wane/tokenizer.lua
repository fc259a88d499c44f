--- wane.tokenizer: text to token ids and back, as the model's own tokenizer.json says.
-- The methods are C (runtime/bind/tokenizer.c) but for chat and prompt, which are here; ids are the file's, from 0.
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

-- Contents of all special tokens, the longest first.
local function special_texts(tokenizer)
  local list = {}
  for id = 0, #tokenizer - 1 do
    if tokenizer:is_special(id) then list[#list + 1] = tokenizer:token(id) end
  end
  table.sort(list, function(a, b) return #a > #b end)
  return list
end

local function same(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local MARK = "\u{f8ff}%d\u{f8ff}" -- private use: in no vocabulary, in no template

-- The messages with the special tokens' texts in what others wrote replaced by marks, and what each mark stands for;
-- nothing where there are none.
local function marked(tokenizer, messages)
  local specials, copy, stands
  for i, message in ipairs(messages) do
    local content = message.content
    if message.role ~= "assistant" and type(content) == "string"
      and not same(tokenizer:encode(content, { special = false }), tokenizer:encode(content, { plain = true })) then
      specials = specials or special_texts(tokenizer)
      copy, stands = copy or table.move(messages, 1, #messages, 1, {}), stands or {}
      for _, text in ipairs(specials) do
        local at = content:find(text, 1, true)
        while at do
          stands[#stands + 1] = text
          local mark = MARK:format(#stands)
          content = content:sub(1, at - 1) .. mark .. content:sub(at + #text)
          at = content:find(text, at + #mark, true)
        end
      end
      local changed = {}
      for key, value in pairs(message) do changed[key] = value end
      changed.content = content
      copy[i] = changed
    end
  end
  return copy, stands
end

core.docs["tokenizer.prompt"] = "tokenizer:prompt(messages, options of chat) -> ids, text, about: as chat, but the "
  .. "texts of special tokens inside messages stay text; raises format, unsupported"

--- Messages as token ids, and as text. The template's special tokens are special; the same text inside a message that
-- the model did not write is plain text, so that a question cannot end its own turn.
-- @param messages list of { role, content }
-- @param options as for chat
-- @return integer[], string, and what chat.render says of it
function core.tokenizer.methods.prompt(self, messages, options)
  local copy, stands = marked(self, messages)
  if not copy then
    local text, about = self:chat(messages, options)
    return self:encode(text, { special = false }), text, about
  end
  local ids, shown, rest, about = {}, {}, self:chat(copy, options)
  local function add(text, how)
    local more = self:encode(text, how)
    table.move(more, 1, #more, #ids + 1, ids)
    shown[#shown + 1] = text
  end
  while true do
    local first, last, number = rest:find("\u{f8ff}(%d+)\u{f8ff}")
    local stood = number and stands[tonumber(number)]
    if not stood then break end
    if first > 1 then add(rest:sub(1, first - 1), { special = false }) end
    add(stood, { special = false, plain = true })
    rest = rest:sub(last + 1)
  end
  if rest ~= "" then add(rest, { special = false }) end
  return ids, table.concat(shown), about
end

-- A folder without tokenizer.json is told from one that cannot be read.
local function check_folder(dir)
  if core.files.kind(dir) ~= "directory" or core.files.kind(dir .. "/tokenizer.json") then return end
  local why = "which turns text into ids: copy it there, or fetch the model again with: wane get ORG/MODEL"
  if core.files.kind(dir .. "/tokenizer.model") then
    why = "and wane does not read the tokenizer.model beside it: take the tokenizer.json of the model's page, or "
      .. "save one with Transformers' AutoTokenizer"
  end
  local shown = require "wane.fingerprint".shown(dir)
  require "wane.options".fail { code = "io", op = "tokenizer", path = dir .. "/tokenizer.json",
                                message = ("%s: there is no tokenizer.json, %s"):format(shown, why) }
end

--- Reads a tokenizer: local tokenizer = wane.tokenizer "examples/models/lune-5m"
-- @param path a tokenizer.json, or the folder that holds it, or an id of the Hub, of which no weights are fetched
-- @return a tokenizer: t:encode(text), t:decode(ids), t:token(id), t:id(content), #t
-- @error io, format (a file that contradicts itself), unsupported (a component wane does not know), network
return function(path)
  if type(path) ~= "string" then error("wane.tokenizer takes a folder or a file, not a " .. type(path), 2) end
  local dir = require "wane.hub".folder(path, { weights = false }) or path
  check_folder(dir)
  return core.tokenizer.load(dir)
end
