--- wane.chat: messages to the prompt that a model was trained on, through its own chat template.
--
--   local found = chat.find "examples/models/lune-1m"
--   local prompt = chat.render(found, { { role = "user", content = "Hi" } }, { add_generation_prompt = true })
--
-- The template is chat_template.jinja in the model's folder, else `chat_template` in tokenizer_config.json: a text, or
-- a list of named ones, of which "tool_use" is taken where tools are given and there is one, else "default".
-- Further named ones lie in additional_chat_templates/NAME.jinja. bos_token, eos_token and their like come from
-- tokenizer_config.json, else from special_tokens_map.json. That is what Transformers does; the template language is
-- lua/wane/template/.
local errors = require "wane.template.errors"
local template = require "wane.template"

local chat = {}

--- What chat.render takes beside the messages; any other name must be a variable that the template reads.
chat.options = {
  { name = "add_generation_prompt", kind = "boolean", default = false, doc = "end with the start of the answer" },
  { name = "enable_thinking", kind = "boolean", doc = "for templates that ask: whether the answer may think first" },
  { name = "tools", kind = "table", doc = "list of the functions the model may call, as JSON schemas" },
  { name = "documents", kind = "table", doc = "list of documents to answer from" },
  { name = "template", kind = "string", doc = "name of the template where there are several; or chatml" },
  { name = "clock", kind = "any", doc = "the time that strftime_now sees; WANE_NOW or 2026-01-01 unless given" },
}

--- Templates that can be asked for by name where a model has none.
chat.builtin = {
  chatml = "{% for message in messages %}"
    .. "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}"
    .. "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
}

local TOKENS = {
  "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  "additional_special_tokens",
}
local MOST = 512 << 20 -- bytes of a JSON file, as everywhere in wane

-- The text of a file; nil where there is no such file.
local function read(path, most)
  local file, why, number = io.open(path, "rb")
  if not file then
    if number == 2 then return nil end -- ENOENT
    errors.raise("io", ("cannot read %s"):format(errors.escape(why)), { path = path })
  end
  local pieces, size = {}, 0
  repeat -- read(n) takes room for n bytes, however short the file is
    local piece, wrong = file:read(65536)
    if not piece and wrong then
      file:close()
      errors.raise("io", ("cannot read %s: %s"):format(errors.escape(path), errors.escape(wrong)), { path = path })
    end
    pieces[#pieces + 1], size = piece, size + #(piece or "")
  until not piece or size > most
  file:close()
  if size > most then
    errors.raise("unsupported", ("%s is larger than %d bytes"):format(errors.escape(path), most), { path = path })
  end
  return table.concat(pieces)
end

local function malformed(path, why)
  errors.raise("format", ("%s: %s"):format(errors.escape(path), why), { path = path })
end

-- A JSON object from a file; nil where there is no such file.
local function read_object(path, json)
  local text = read(path, MOST)
  if not text then return nil end
  -- "no limit" is written as 10^30, a whole number that strict JSON readers refuse; nothing here reads it
  text = text:gsub('("model_max_length"%s*:%s*)(%d+)', function(key, digits)
    return #digits > 18 and key .. "null" or nil
  end)
  local ok, value, _, more = pcall(json.decode, text, path)
  if not ok then
    if type(value) == "table" then error(value, 0) end
    malformed(path, errors.escape(tostring(value)))
  end
  if type(value) == "table" then return value end
  malformed(path, "not a JSON object" .. (more and ": " .. errors.escape(tostring(more)) or ""))
end

local function present(value, json) return value ~= nil and value ~= json.null end

-- A special token: text, or an object with its content; nil for null.
local function token_text(value, json, path, name)
  if not present(value, json) then return nil end
  if type(value) == "table" then value = value.content end
  if type(value) ~= "string" then malformed(path, ("%s is no token: text or { content = text }"):format(name)) end
  return value
end

local function add_tokens(variables, config, json, path)
  for _, name in ipairs(TOKENS) do
    local value = config[name]
    if variables[name] == nil and present(value, json) then
      if name == "additional_special_tokens" then
        if type(value) ~= "table" then malformed(path, name .. " is no list") end
        local list = {}
        for i, token in ipairs(value) do
          list[i] = token_text(token, json, path, name)
        end
        if #list > 0 then variables[name] = list end
      else
        variables[name] = token_text(value, json, path, name)
      end
    end
  end
end

-- Named sources from tokenizer_config.json.
local function config_sources(config, json, path)
  local value = config.chat_template
  if not present(value, json) then return {} end
  if type(value) == "string" then return { default = value } end
  if type(value) ~= "table" then malformed(path, "chat_template is neither a text nor a list") end
  local sources = {}
  for i, entry in ipairs(value) do
    if type(entry) ~= "table" or type(entry.name) ~= "string" or type(entry.template) ~= "string" then
      malformed(path, ("chat_template, entry %d: wants name and template"):format(i))
    end
    if sources[entry.name] then malformed(path, "two chat templates are named " .. errors.escape(entry.name)) end
    sources[entry.name] = entry.template
  end
  return sources
end

local function names_of(found)
  local names = {}
  for name in pairs(found.sources) do
    names[#names + 1] = errors.escape(name)
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local HINT = 'give one with template = "chatml" if the model speaks ChatML, or put chat_template.jinja there'

-- The compiled template of that name; nil where there is none.
local function get(found, name)
  if found.templates[name] then return found.templates[name] end
  local own = found.sources[name]
  if not own and not chat.builtin[name] then return nil end
  local made = template.compile(own and own.text or chat.builtin[name], { name = own and own.path or name })
  found.templates[name] = made
  return made
end

--- Finds and compiles the chat templates of a model.
-- @param dir the model's folder
-- @param options { json = a module with decode and null; wane.json unless given, template = a name that is wanted }
-- @return { dir, templates and sources (by name), variables (bos_token, ...) } for chat.render
-- @error io, format (a broken file or template, no template at all), unsupported (with line, column and name)
function chat.find(dir, options)
  if type(dir) ~= "string" then error("chat.find wants the folder of a model", 2) end
  local wanted = options and options.template
  local json = options and options.json or require "wane.json"
  if json.null ~= nil then template.null(json.null) end
  local found = { dir = dir, templates = {}, sources = {}, variables = {} }
  local path, map_path = dir .. "/tokenizer_config.json", dir .. "/special_tokens_map.json"
  local config, map = read_object(path, json), read_object(map_path, json)
  if config then add_tokens(found.variables, config, json, path) end
  if map then add_tokens(found.variables, map, json, map_path) end

  local function add_file(name, file)
    local text = read(dir .. "/" .. file, template.source_limit)
    if text then found.sources[name] = { text = text, path = dir .. "/" .. file } end
    return text
  end
  if not add_file("default", "chat_template.jinja") and config then
    for name, text in pairs(config_sources(config, json, path)) do
      found.sources[name] = { text = text, path = name == "default" and path or path .. ":" .. name }
    end
  end
  for _, name in ipairs { "tool_use", "rag", wanted } do
    if type(name) == "string" and name:find "^[%w_-]+$" then
      add_file(name, "additional_chat_templates/" .. name .. ".jinja")
    end
  end

  if wanted then -- only that one, so that a broken one can be passed over
    if not get(found, wanted) then
      local has = next(found.sources) and "there are: " .. names_of(found) or "there is none"
      malformed(dir, ("no chat template is named %q; %s"):format(errors.escape(wanted), has))
    end
  elseif not next(found.sources) then
    malformed(dir, "no chat template in chat_template.jinja or tokenizer_config.json; " .. HINT)
  end
  for name in pairs(wanted and {} or found.sources) do
    get(found, name) -- what a template needs and wane lacks is said now, not at the 400th prompt
  end
  return found
end

-- The template that is meant, and its name.
local function choose(found, wanted, has_tools)
  local name = wanted or has_tools and found.sources.tool_use and "tool_use" or "default"
  local made = get(found, name)
  if made then return made, name end
  if wanted then
    malformed(found.dir, ("no chat template is named %q; there are: %s"):format(errors.escape(wanted), names_of(found)))
  end
  malformed(found.dir, "no chat template is the default; choose with template = one of: " .. names_of(found))
end

-- A list of { role, content }; what is wrong is a plain error at the caller of chat.render.
local function check_messages(messages)
  if type(messages) ~= "table" or type(messages[1]) ~= "table" then
    error("messages must be a list: { { role = \"user\", content = \"...\" } }", 3)
  end
  for i, message in ipairs(messages) do
    if type(message) ~= "table" or type(message.role) ~= "string" then
      error(("messages[%d] has no role"):format(i), 3)
    end
    local content = message.content
    local kind = type(content)
    if kind == "number" or kind == "boolean" or kind == "function" then
      error(("messages[%d].content must be text or a list of parts, not a %s"):format(i, kind), 3)
    elseif content == nil and message.tool_calls == nil and message.role ~= "assistant" then
      error(("messages[%d] has no content"):format(i), 3)
    end
  end
end

local function roles_of(messages)
  local roles = {}
  for i, message in ipairs(messages) do
    if i > 32 then
      roles[i] = "..."
      break
    end
    roles[i] = errors.escape(message.role, 40)
  end
  return roles
end

local KNOWN = {}
for _, entry in ipairs(chat.options) do
  KNOWN[entry.name] = true
end

local function check_option(name, made)
  if type(name) == "string" and (KNOWN[name] or made.reads[name]) then return end
  local names = {}
  for i, entry in ipairs(chat.options) do
    names[i] = entry.name
  end
  error(("chat has no option %s, and the template reads no variable of that name; it has %s"):format(tostring(name),
    table.concat(names, ", ")), 3)
end

-- The messages with the system's words before those of the user that follow them; nil where these are not what they
-- begin with.
local function folded(messages)
  local system, user = messages[1], messages[2]
  if system.role ~= "system" or not user or user.role ~= "user" or type(system.content) ~= "string"
    or type(user.content) ~= "string" then
    return nil
  end
  local copy, both = table.move(messages, 2, #messages, 1, {}), {}
  for key, value in pairs(user) do both[key] = value end
  both.content = system.content .. "\n\n" .. user.content
  copy[1] = both
  return copy
end

--- Renders messages to a prompt. A template that refuses a system message (those of the first Mistral models know two
-- roles) gets its words at the start of what the user says.
-- @param from what chat.find gave, or a model's folder, or a compiled template
-- @param messages list of { role, content }
-- @param options see chat.options; what else is there becomes a variable of the template
-- @return the prompt, and { template = its name, clock = the time it was told, where it asked, folded = true where the
--   system's words stand in the user's message }
-- @error format (the template refuses these messages: the error carries its text and the roles), unsupported, io
function chat.render(from, messages, options)
  options = options or {}
  check_messages(messages)
  if type(from) == "string" then from = chat.find(from, { template = options.template }) end
  local made, name = from, nil
  if from.templates then made, name = choose(from, options.template, options.tools ~= nil) end
  local none = template.none
  local context = { messages = messages, tools = none, documents = none, add_generation_prompt = false }
  for variable, value in pairs(from.variables or {}) do
    context[variable] = value
  end
  for option, value in pairs(options) do
    check_option(option, made)
    if option ~= "template" and option ~= "clock" then context[option] = value end
  end
  local ok, text = pcall(made.render, made, context, { clock = options.clock })
  local fold
  if not ok and type(text) == "table" and text.raised then
    context.messages = folded(messages)
    local again, other = pcall(made.render, made, context, { clock = options.clock })
    fold = context.messages and again or nil
    if fold then ok, text = true, other end
  end
  if not ok then
    local e = text
    if type(e) == "table" and e.raised then
      e.roles = roles_of(messages)
      e.message = ("%s (roles: %s)"):format(e.message, table.concat(e.roles, ", "))
    end
    error(e, 0)
  end
  local told = made.asks_time and template.clock.text(template.clock.read(options.clock)) or nil
  return text, { template = name or made.name, clock = told, folded = fold }
end

return chat
