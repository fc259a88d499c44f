--- Calibration sets: texts from which a quantizer learns what a model's inputs look like.
-- A set is read once and belongs to no model; its texts become tokens by the model's own template and tokenizer when
-- it is used.
local core = require "wane.core"
local options = require "wane.options"
local records = require "wane.records"
local sets = require "wane.sets"
local trim = require "wane.template.unicode".trim

local spec = {
  { name = "file", kind = "string",
    doc = "JSONL, JSON or Parquet of records with messages, prompt or text; or plain text, a prompt on each line; "
      .. "or a folder or pattern of such files, as the Hub's data sets have" },
  { name = "texts", kind = "list", doc = "texts, or lists of messages, instead of a file" },
  { name = "samples", kind = "integer", default = 128, least = 1, doc = "most records, spread evenly over the file" },
  { name = "tokens", kind = "integer", default = 512, least = 8, doc = "most tokens of a record; the rest is cut" },
  { name = "weights", kind = "one of", choices = { "unique", "all" }, default = "unique",
    doc = "equal beginnings count once, or once for each record" },
  { name = "answer", kind = "number", default = 1.0, least = 0, most = 1000,
    doc = "how much an assistant's token counts, where all others count 1" },
  { name = "text", kind = "string", default = "text", doc = "name of the field that holds a raw text" },
  { name = "plain", kind = "one of", choices = { "lines", "paragraphs", "file" }, default = "lines",
    doc = "plain text: each line is a prompt, each paragraph a raw text, or the file one, cut into samples" },
  { name = "force", kind = "boolean", default = false, doc = "take a set that is too small to learn from" },
}

local LEAST = 32 * 128 -- tokens; fewer say little about any input
local SHORTEST = 8 -- tokens; a shorter text says nothing

local calibration = { __name = "wane.calibration" }
calibration.__index = calibration

local function fail(path, message, line)
  options.fail { code = "format", op = "calibration", path = path,
                 message = line and ("%s:%d:1: %s"):format(path, line, message) or ("%s: %s"):format(path, message) }
end

local ANSWERS = { "completion", "response", "answer" } -- of a prompt: the first that is there

local ROLES = { system = true, user = true, assistant = true, tool = true, developer = true }

-- what is wrong with a list of messages, or nil
local function message_problem(list)
  if type(list) ~= "table" or #list == 0 then return "messages must be a list that is not empty" end
  for i, m in ipairs(list) do
    if type(m) ~= "table" or not ROLES[m.role] then return ("message %d has no role that is known"):format(i) end
    if type(m.content) ~= "string" then return ("message %d has no text as its content"):format(i) end
  end
end

local function present(value) return value ~= nil and value ~= core.json.null end

-- A record -> { messages } or { text }; nil and what is wrong. A field that is null is not there.
local function understand(record, text_field)
  if present(record.messages) then
    local problem = message_problem(record.messages)
    if problem then return nil, problem end
    return { messages = record.messages }
  end
  if type(record.prompt) == "string" then
    local list = { { role = "user", content = record.prompt } }
    for _, name in ipairs(ANSWERS) do
      if type(record[name]) == "string" then
        list[2] = { role = "assistant", content = record[name] }
        break
      end
    end
    return { messages = list }
  end
  if type(record[text_field]) == "string" then return { text = record[text_field] } end
  return nil, ("a record needs messages, prompt or %s"):format(text_field)
end

-- stripped lines that are not empty
local function lines_of(text)
  local list = {}
  for line in (text .. "\n"):gmatch("(.-)\n") do
    line = trim(line)
    if line ~= "" then list[#list + 1] = line end
  end
  return list
end

-- what stands between empty lines
local function paragraphs_of(text)
  local list = {}
  text = text:gsub("\r\n", "\n"):gsub("\n[ \t]+%f[\n]", "\n")
  for part in (text .. "\n\n"):gmatch("(.-)\n\n+") do
    part = trim(part)
    if part ~= "" then list[#list + 1] = part end
  end
  return list
end

local function read_plain(o, text)
  local list = {}
  if o.plain == "lines" then
    for i, line in ipairs(lines_of(text)) do
      list[i] = { messages = { { role = "user", content = line } }, plain = true }
    end
  elseif o.plain == "paragraphs" then
    for i, part in ipairs(paragraphs_of(text)) do list[i] = { text = part } end
  else
    list[1] = { text = trim(text), long = true }
  end
  return list
end

-- The texts of files that are no Parquet, one after the other; nil where there is Parquet. What it is called is said of
-- the first.
local function texts_of(files)
  local kind, parts = nil, {}
  for i, path in ipairs(files) do
    local one, text = records.open(path)
    if one == "parquet" then return nil end
    kind, parts[i] = kind or one, text
  end
  return kind, table.concat(parts, "\n\n")
end

-- The set's hash is that of what its text says, whatever its line ends: of the stripped lines that are not empty. Of
-- Parquet it is that of the files.
local function read_file(o)
  local files = sets.files(o.file, { "train" })
  local kind, text = texts_of(files)
  local hash
  if not kind then
    hash = sets.hash(files)
  else
    local lines = lines_of(text)
    if #lines == 0 then fail(o.file, "no calibration texts: the file is empty") end
    hash = core.files.sha256(table.concat(lines, "\n"))
    if kind == "text" then
      local list = read_plain(o, text)
      return list, hash, #list, #files
    end
  end
  local problem_of = function(record) return select(2, understand(record, o.text)) end
  local fields = table.move(ANSWERS, 1, #ANSWERS, 4, { "messages", "prompt", o.text })
  local list, count = records.sample(files, o.samples, problem_of, fields)
  for i, record in ipairs(list) do list[i] = understand(record, o.text) end
  return list, hash, count, #files
end

local function read_texts(o)
  local list, parts = {}, {}
  for i, item in ipairs(o.texts) do
    local record, problem = { text = item }, nil
    if type(item) == "table" then
      record, problem = { messages = item }, message_problem(item)
    elseif type(item) ~= "string" then
      problem = "neither a text nor a list of messages"
    end
    if problem then error(("wane.calibration: text %d: %s"):format(i, problem), 3) end
    list[i] = record
    parts[i] = trim(type(item) == "table" and core.json.encode(item) or item)
  end
  return list, core.files.sha256(table.concat(parts, "\n"))
end

-- count of all, evenly spread, in order
local function spread(list, count)
  local chosen = {}
  for i, place in ipairs(records.spread(#list, count)) do chosen[i] = list[place] end
  return chosen
end

--- Reads a set: wane.calibration { file = "examples/data/calibration.jsonl", samples = 128, tokens = 512 }.
-- @return calibration { file, files, hash, count, samples, tokens, weights, answer }
-- @error io, format with file:line:column
local function open(given)
  local o = options.check(spec, given, "wane.calibration")
  if (o.file == nil) == (o.texts == nil) then error("wane.calibration takes file = or texts =", 2) end
  local list, hash, count, files
  if o.file then list, hash, count, files = read_file(o) else list, hash = read_texts(o) end
  local self = { file = o.file or "texts", files = files, hash = hash, count = count or #list,
                 list = spread(list, o.samples) }
  self.most = o.samples
  self.samples, self.tokens, self.weights, self.answer, self.force = #self.list, o.tokens, o.weights, o.answer, o.force
  return setmetatable(self, calibration)
end

function calibration.__tostring(self)
  local answer = self.answer ~= 1 and (", answers count %g"):format(self.answer) or ""
  local files = (self.files or 1) > 1 and (" (%d files)"):format(self.files) or ""
  return ("calibration %s%s   %d of %d records   at most %d tokens   %s%s"):format(
    self.file, files, self.samples, self.count, self.tokens, self.weights, answer)
end

-- how many ids two lists begin with in common
local function shared(a, b)
  local n = 0
  while n < #a and a[n + 1] == b[n + 1] do n = n + 1 end
  return n
end

-- Weights of a chat's tokens: those that an assistant would have to say count answer, all others 1. What it says is
-- what its message adds to the prompt for it.
local function answer_weights(tokenizer, messages, ids, answer)
  local weights = {}
  for i = 1, #ids do weights[i] = 1 end
  for i, m in ipairs(messages) do
    if m.role == "assistant" then
      local before = table.move(messages, 1, i - 1, 1, {})
      local prompt = tokenizer:chat(before, { add_generation_prompt = true, enable_thinking = false })
      before[i] = m
      local up_to = tokenizer:encode((tokenizer:chat(before, { enable_thinking = false })))
      local first = shared(tokenizer:encode(prompt), up_to) + 1
      for t = first, shared(up_to, ids) do weights[t] = answer end
    end
  end
  return weights
end

-- The text of a record by the model's template; a line of plain text stays as it is where there is none.
local function rendered(tokenizer, record)
  local chat = { add_generation_prompt = record.plain, enable_thinking = false }
  local ok, text = pcall(tokenizer.chat, tokenizer, record.messages, chat)
  if ok then return text end
  local err = text
  if record.plain and type(err) == "table" and err.message:find("no chat template", 1, true) then
    return record.messages[1].content
  end
  error(err, 0)
end

-- One record as ids, and weights where they are not all 1.
local function tokenize(self, tokenizer, record)
  if record.text then return tokenizer:encode(record.text, { special = true }) end
  local ids = tokenizer:encode(rendered(tokenizer, record))
  local weights = self.answer ~= 1 and answer_weights(tokenizer, record.messages, ids, self.answer)
  return ids, weights or nil
end

local function cut(list, most)
  for i = #list, most + 1, -1 do list[i] = nil end
  return list
end

-- A long text's ids in pieces of the set's tokens, as many as it has samples.
local function pieces(self, ids)
  local list = {}
  for first = 1, #ids, self.tokens do
    list[#list + 1] = table.move(ids, first, math.min(first + self.tokens - 1, #ids), 1, {})
  end
  return spread(list, self.most)
end

--- The set's texts as tokens of a model.
-- @return { ids, weights, file, hash, tokens }
-- @error format where they are too few to learn from
function calibration:bind(model)
  local tokenizer = model.tokenizer
  local bound = { ids = {}, weights = {}, file = self.file, hash = self.hash, tokens = 0 }
  local function add(ids, weights)
    if #ids < SHORTEST then return end
    local n = #bound.ids + 1
    bound.ids[n] = cut(ids, self.tokens)
    bound.weights[n] = weights and cut(weights, self.tokens) or false
    bound.tokens = bound.tokens + #bound.ids[n]
  end
  for _, record in ipairs(self.list) do
    local ids, weights = tokenize(self, tokenizer, record)
    if record.long then
      for _, piece in ipairs(pieces(self, ids)) do add(piece) end
    else
      add(ids, weights)
    end
  end
  if #bound.ids == 0 or (bound.tokens < LEAST and not self.force) then
    fail(self.file, ("too little to learn from: %d records, %d of at least %d tokens, %d tokens in all; give at "
      .. "least %d tokens, or force = true"):format(self.samples, #bound.ids, SHORTEST, bound.tokens, LEAST))
  end
  return bound
end

local function normalize(text) return trim(text:lower():gsub("%s+", " ")) end

--- Which of the given texts the set has too, whatever their case and spaces: a set that shares questions with an
-- evaluation flatters it.
-- @param texts list of strings
-- @return list of the indices of those that are in the set
function calibration:overlap(texts)
  local own, found = {}, {}
  for _, record in ipairs(self.list) do
    if record.text then own[normalize(record.text)] = true end
    for _, m in ipairs(record.messages or {}) do
      if m.role == "user" then own[normalize(m.content)] = true end
    end
  end
  for i, text in ipairs(texts) do
    if own[normalize(text)] then found[#found + 1] = i end
  end
  return found
end

return setmetatable({ spec = spec }, { __call = function(_, ...) return open(...) end })
