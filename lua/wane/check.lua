--- wane.check: everything that is wrong with a model's folder, in one go.
--
--   local page = wane.check("models/x", { deep = true, verify = true })
--   page.fine, page.problems[1].message, page.quantize.formats
--
-- Headers, index and shapes are C (runtime/save/survey.c). Here: the tokenizer, the chat template, the generation
-- config, hashes against what was recorded of them, and what wane can make of the model. Nothing in the folder is
-- executed, and without `deep` and `verify` no weight is read.
local core = require "wane.core"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"
local recorded = require "wane.recorded"

local check = {}

check.spec = {
  { name = "deep", kind = "boolean", default = false, doc = "read every weight, and find NaN and Inf" },
  { name = "verify", kind = "boolean", default = false,
    doc = "hash every file, and compare with what the Hub's cache or SHA256SUMS recorded" },
}

-- What must come back from a tokenizer as it went in: other scripts, marks in composed form, code, runs of white space.
local TEXTS <const> = {
  "The moon wanes.", " two  spaces, and one behind ", "line\nline\r\n\n\ttab", "0123456789 1,000.5 12:30",
  "def f(x):\n    return x ** 2  # code\n", "Caf\u{e9} na\u{ef}ve \u{fb01}",
  "\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}", "\u{645}\u{631}\u{62d}\u{628}\u{627}",
  "\u{1f469}\u{200d}\u{1f680}\u{1f319}", "\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}",
  "\\boxed{42}", "it's we'll I'D", ("a"):rep(300),
}

local SIZES <const> = { 32, 64, 128, 256 } -- groups that are looked at

local function add(page, part, code, message, fields)
  local problem = fields or {}
  problem.part, problem.code, problem.message = part, code, message
  page.problems[#page.problems + 1] = problem
end

-- What a step raised, as a problem of that part; anything but an error object is a bug, and goes on up.
local function add_error(page, part, err)
  if getmetatable(err) ~= core.error or err.code == "interrupted" or err.code == "oom" then error(err, 0) end
  add(page, part, err.code, err.message, { path = err.path, tensor = err.tensor, offset = err.offset })
end

local function state(page, name, what, text)
  page.parts[#page.parts + 1] = { name = name, state = what, text = text }
end

local function count_of(page, part)
  local n = 0
  for _, problem in ipairs(page.problems) do n = n + (problem.part == part and 1 or 0) end
  return n
end

local function note(page, format, ...) page.warnings[#page.warnings + 1] = format:format(...) end

-- The state of a part by the problems it has.
local function settle(page, name, text)
  local n = count_of(page, name)
  if n == 0 then return state(page, name, "ok", text) end
  state(page, name, "bad", n == 1 and "1 problem" or n .. " problems")
end

local function plural(n, what) return n == 1 and "1 " .. what or ("%d %ss"):format(n, what) end

-- bytes by dtype -> "bf16" or "bf16 and f32"
local function dtypes_of(survey)
  local names = {}
  for name in pairs(survey.dtypes) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    return survey.dtypes[a] > survey.dtypes[b] or survey.dtypes[a] == survey.dtypes[b] and a < b
  end)
  return table.concat(names, " and "):lower()
end

-- What lies there that wane never opens: code, and weights that are Python objects.
local function note_files(page, dir)
  local code, pickles = {}, {}
  local ok, names = pcall(core.files.list, dir)
  if not ok then return add_error(page, "files", names) end
  for _, name in ipairs(names) do
    local ending = name:match "%.(%w+)$"
    if ending == "py" then code[#code + 1] = fingerprint.shown(name) end
    if ending == "bin" or ending == "pt" or ending == "pth" or ending == "ckpt" or ending == "pkl" then
      pickles[#pickles + 1] = fingerprint.shown(name)
    end
  end
  if code[1] then note(page, "%s: code, which wane never runs", table.concat(code, ", ")) end
  if pickles[1] then note(page, "%s: Python objects, which wane never reads", table.concat(pickles, ", ")) end
end

local function look_at_files(page)
  local survey = page.model
  if survey.family then
    settle(page, "config", ("%s, %s, %.1f M weights, rope %s"):format(survey.family, plural(survey.layers, "layer"),
      survey.parameters / 1e6, survey.rope))
  else
    settle(page, "config", "readable")
  end
  if not survey.files then
    settle(page, "files", "not opened")
    return state(page, "tensors", "skipped", "the files have to be right first")
  end
  local dtypes = dtypes_of(survey)
  settle(page, "files", ("%s in %s of %s"):format(core.device.format_bytes(survey.bytes),
    plural(survey.tensors, "tensor"), plural(#survey.files, "file")))
  if survey.family then
    settle(page, "tensors", ("%s, every shape as the config implies"):format(dtypes))
  else
    state(page, "tensors", "skipped", ("%s; the config has to be right first"):format(dtypes))
  end
end

local function same(a, b) return table.concat(a, " ") == table.concat(b, " ") end

-- Whether a text comes back as it went in; where not, that is a problem. But a tokenizer that sets a space before every
-- text that has none reads both alike, and gives back the shorter: it cannot do else.
local function check_text(page, tokenizer, text, path)
  local ok, back = pcall(function() return tokenizer:decode(tokenizer:encode(text)) end)
  if not ok then return add_error(page, "tokenizer", back) end -- a pattern that ran into its limits
  if back == text then return end
  if " " .. back == text and same(tokenizer:encode(text), tokenizer:encode(back)) then
    return note(page, "the tokenizer reads a text alike with and without a space before it")
  end
  add(page, "tokenizer", "format", ("%s: the text %q comes back as %q"):format(fingerprint.shown(path),
    fingerprint.shown(text:sub(1, 40)), fingerprint.shown(back:sub(1, 60))), { path = path })
end

local function check_ids(page, tokenizer, path)
  local model = page.model
  if model.vocabulary and #tokenizer > model.vocabulary then
    add(page, "tokenizer", "format", ("%s: its highest id is %d; the embedding has %d rows, for ids up to %d"):format(
      path, #tokenizer - 1, model.vocabulary, model.vocabulary - 1), { path = path })
  end
  for _, id in ipairs(model.eos or {}) do
    if not tokenizer:token(id) then
      add(page, "tokenizer", "format", ("%s: eos_token_id %d is the id of no token: an answer would not end"):format(
        path, id), { path = path })
    end
  end
  for _, name in ipairs { "bos", "pad" } do
    local id = model[name]
    if id and not tokenizer:token(id) then
      note(page, "%s_token_id %d is the id of no token", name, id)
    end
  end
end

local function look_at_tokenizer(page, dir)
  local path = dir .. "/tokenizer.json"
  local shown = fingerprint.shown(path)
  if not core.files.kind(path) then
    local why = core.files.kind(dir .. "/tokenizer.model") and "tokenizer.model alone, which wane does not read"
      or "no tokenizer.json: only ids go in and come out"
    page.warnings[#page.warnings + 1] = why
    return state(page, "tokenizer", "absent", why)
  end
  local ok, tokenizer = pcall(require "wane.tokenizer", path)
  if not ok then
    add_error(page, "tokenizer", tokenizer)
    return settle(page, "tokenizer")
  end
  check_ids(page, tokenizer, shown)
  for _, text in ipairs(TEXTS) do check_text(page, tokenizer, text, path) end
  page.tokenizer = { tokens = #tokenizer, texts = #TEXTS }
  settle(page, "tokenizer", ("%d tokens, %d texts come back as they were"):format(#tokenizer, #TEXTS))
  return tokenizer
end

local QUESTION <const> = "Why does the moon wane?"

-- Special tokens that the template is told of, and whether they are what they seem.
local function note_tokens(page, variables, tokenizer)
  local ends = {}
  for _, id in ipairs(page.model.eos or {}) do ends[id] = true end
  for _, name in ipairs { "bos_token", "eos_token", "pad_token", "unk_token" } do
    local text = variables[name]
    local id = text and tokenizer:id(text)
    if text and not id then
      note(page, "%s %s of tokenizer_config.json is no token of tokenizer.json", name, fingerprint.shown(text))
    elseif name == "eos_token" and id and next(ends) and not ends[id] then
      note(page, "eos_token %s of tokenizer_config.json does not end answers: these end at %s", fingerprint.shown(text),
        table.concat(page.model.eos, ", "))
    end
  end
end

-- Marks of a template that the tokenizer would take to pieces.
local function note_marks(page, text, tokenizer)
  local seen = {}
  for mark in text:gmatch "<|[%w_%-]+|>" do
    if not seen[mark] and not tokenizer:id(mark) then
      note(page, "the chat template writes %s, which is no token of tokenizer.json", mark)
    end
    seen[mark] = true
  end
end

-- Renders one question as the model's own template puts it.
local function look_at_template(page, dir, tokenizer)
  local chat = require "wane.chat"
  local ok, found = pcall(chat.find, dir)
  if not ok then
    if getmetatable(found) == core.error and found.message:find("no chat template in", 1, true) then
      return state(page, "template", "absent", "none: a base model, or give one with template = \"chatml\"")
    end
    add_error(page, "template", found)
    return settle(page, "template")
  end
  if tokenizer then note_tokens(page, found.variables, tokenizer) end
  local rendered, text = pcall(chat.render, found, { { role = "user", content = QUESTION } },
    { add_generation_prompt = true })
  if not rendered then
    add_error(page, "template", text)
  elseif not text:find(QUESTION, 1, true) then
    add(page, "template", "format", ("%s: the chat template leaves out what the user says"):format(
      fingerprint.shown(dir)), { path = dir })
  else
    page.template = { text = text }
    if tokenizer then
      note_marks(page, text, tokenizer)
      local ok_ids, ids = pcall(tokenizer.encode, tokenizer, text)
      page.template.tokens = ok_ids and #ids or nil -- what cannot be encoded has been told of the tokenizer
    end
  end
  settle(page, "template", page.template and ("a question becomes %s"):format(page.template.tokens
    and plural(page.template.tokens, "token") or plural(#page.template.text, "byte")))
end

-- generation_config.json has been read with the config, for the ids that end an answer; here its other ids.
local function look_at_generation(page, dir)
  local path = dir .. "/generation_config.json"
  if not core.files.kind(path) then return state(page, "generation", "absent", "no generation_config.json") end
  for _, problem in ipairs(page.problems) do
    if problem.path == path then problem.part = "generation" end
  end
  local ok, config = pcall(core.json.load, path)
  local vocabulary = page.model.vocabulary
  for _, name in ipairs { "bos_token_id", "pad_token_id", "decoder_start_token_id" } do
    local id = ok and type(config) == "table" and config[name]
    if vocabulary and id and id ~= core.json.null and (math.type(id) ~= "integer" or id < 0 or id >= vocabulary) then
      add(page, "generation", "format", ("%s: %s is %s; it must be an id below vocab_size, %d"):format(
        fingerprint.shown(path), name, tostring(id), vocabulary), { path = path })
    end
  end
  settle(page, "generation", page.model.eos and ("answers end at %s"):format(page.model.eos[1]
    and table.concat(page.model.eos, ", ") or "no id") or "readable")
end

local function look_at_numbers(page, dir, deep)
  if not deep then return state(page, "numbers", "skipped", "not read; --deep looks for NaN and Inf") end
  if not page.model.files then return state(page, "numbers", "skipped", "the files have to be right first") end
  local ok, found = pcall(core.check.finite, dir)
  if not ok then
    add_error(page, "numbers", found)
  else
    for _, problem in ipairs(found.problems) do
      problem.part = "numbers"
      page.problems[#page.problems + 1] = problem
    end
    page.more = page.more + found.more
  end
  settle(page, "numbers", ("%s read, no NaN and no Inf"):format(core.device.format_bytes(page.model.bytes)))
end

local function look_at_hashes(page, dir, verify)
  if not verify then return state(page, "hashes", "skipped", "not compared; --verify does") end
  local ok, found = pcall(recorded.verify, dir)
  if not ok then
    add_error(page, "hashes", found)
    return settle(page, "hashes")
  end
  page.hashes = { compared = found.compared, unknown = found.unknown, source = found.source }
  for _, problem in ipairs(found.problems) do
    add(page, "hashes", problem.code, problem.message, { path = problem.path })
  end
  if found.compared == 0 and #found.problems == 0 then
    page.warnings[#page.warnings + 1] = "nothing to verify against: " .. recorded.HINT
    return state(page, "hashes", "absent", "nothing to verify against: " .. recorded.HINT)
  end
  local rest = #found.unknown > 0 and ("; nothing is recorded of %s"):format(table.concat(found.unknown, ", ")) or ""
  settle(page, "hashes", ("%s as %s says%s"):format(plural(found.compared, "file"), found.source, rest))
end

-- Sizes of groups that divide the columns of every matrix.
local function group_sizes(model)
  local fits = {}
  for _, size in ipairs(SIZES) do
    local divides = true
    for _, matrix in ipairs(model.matrices) do divides = divides and matrix.k % size == 0 end
    if divides then fits[#fits + 1] = size end
  end
  return fits
end

local BROKEN <const> = { config = true, files = true, tensors = true, numbers = true, hashes = true }
local ZEROS <const> = {
  { name = "symmetric", symmetric = true }, { name = "whole zero points" },
  { name = "fractional zero points", fractional = true },
}

local function grid_name(grid, zeros)
  if grid.activation_bits == 8 then return "w8a8" end
  return ("w%d %s %s"):format(grid.bits, grid.group_size < 0 and "row" or "g" .. grid.group_size, zeros)
end

-- Why a format cannot hold a model's matrices on a grid; nil where it can. The table of formats answers.
local function refusal(model, format, grid)
  local ok, err = pcall(core.save.check, model, format, grid)
  if ok then return nil end
  if getmetatable(err) ~= core.error or err.code ~= "unsupported" then error(err, 0) end
  return err.message
end

-- Every grid that methods make, by what a format says of it: the names of those that fit, and one reason of the rest.
local function ask(model, format, sizes)
  local fit, why = {}, nil
  local function try(grid, zeros)
    local wrong = refusal(model, format, grid)
    if wrong then why = why or wrong else fit[#fit + 1] = grid_name(grid, zeros) end
    return not wrong
  end
  local bits, kinds = {}, {}
  for _, b in ipairs { 2, 3, 4, 8 } do
    for _, size in ipairs(sizes) do
      for _, zeros in ipairs(ZEROS) do
        if try({ bits = b, group_size = size, symmetric = zeros.symmetric, fractional = zeros.fractional },
          zeros.name) then
          bits[b], kinds[zeros.name] = true, true
        end
      end
    end
  end
  local w8a8 = try { bits = 8, group_size = -1, symmetric = true, activation_bits = 8 }
  local function list(of, have)
    local found = {}
    for _, item in ipairs(of) do found[#found + 1] = have[item] and tostring(item) or nil end
    return table.concat(found, ", ")
  end
  local names = {}
  for i, zeros in ipairs(ZEROS) do names[i] = zeros.name end
  local parts = { ("%s bits"):format(list({ 2, 3, 4, 8 }, bits)), list(names, kinds) }
  if w8a8 then parts[#parts + 1] = "w8a8" end
  return { name = format, can = fit[1] ~= nil, grids = core.json.array(fit), why = not fit[1] and why or nil,
           text = next(bits) and table.concat(parts, "; ") or w8a8 and "w8a8" or nil }
end

-- The formats that a quantized folder's codes can be written in, and those that they can only where its zero points are
-- whole or all in the middle, which the headers do not tell.
local function conversions(model)
  local grid, sure, perhaps = core.save.grid(model), {}, {}
  local best = { symmetric = true, bits = grid.bits, group_size = grid.group_size, head = grid.head,
                 activation_bits = grid.activation_bits }
  for _, format in ipairs(core.save.formats()) do
    local list = not refusal(model, format.name, grid) and sure or not refusal(model, format.name, best) and perhaps
    if list then list[#list + 1] = format.name end
  end
  if grid.activation_bits == 16 then sure[#sure + 1] = "dense" end
  return sure, perhaps
end

local function look_at_packed(page, model)
  local ok, made = pcall(function() return model.quantization end)
  if not ok then -- the report beside it is none
    add_error(page, "quantize", made)
    page.quantize = { possible = false, why = made.message }
    return settle(page, "quantize")
  end
  local sure, perhaps = conversions(model)
  local shown = fingerprint.shown(page.dir)
  local why = made.activation_bits == 16
    and ("it is quantized already; wane convert %s DIR --format dense makes what it stands for"):format(shown)
    or "it is quantized already, and computes with 8-bit activations: use the model it was made from"
  page.quantize = { possible = false, why = why, convert = core.json.array(sure),
                    convert_perhaps = core.json.array(perhaps) }
  state(page, "quantize", "no", ("quantized already (%s); wane convert writes it as %s%s"):format(
    made.label, table.concat(sure, ", "),
    perhaps[1] and "; where its zero points allow, as " .. table.concat(perhaps, ", ") or ""))
end

local function look_at_use(page, dir)
  for _, problem in ipairs(page.problems) do
    if BROKEN[problem.part] then
      page.quantize = { possible = false, why = "what is wrong has to be mended first" }
      return state(page, "quantize", "no", page.quantize.why)
    end
  end
  local ok, model = pcall(require "wane.load", dir)
  if not ok then
    add_error(page, "tensors", model)
    page.quantize = { possible = false, why = "it cannot be opened" }
    return state(page, "quantize", "no", page.quantize.why)
  end
  local closing <close> = model -- luacheck: ignore closing
  if page.model.format then return look_at_packed(page, model) end
  local sizes, names, formats = group_sizes(page.model), {}, {}
  local every = table.move(sizes, 1, #sizes, 1, {})
  every[#every + 1] = -1
  for i, format in ipairs(core.save.formats()) do
    formats[i] = ask(model, format.name, every)
    names[#names + 1] = formats[i].can and format.name or nil
  end
  page.quantize = { possible = true, group_sizes = core.json.array(sizes), formats = core.json.array(formats) }
  state(page, "quantize", "yes", ("in groups of %s; saved as %s"):format(
    sizes[1] and table.concat(sizes, ", ") .. " or whole rows" or "whole rows", table.concat(names, ", ")))
end

-- A model of the Hub by its id, as the cache has it: looking at a model fetches nothing. Where there is no folder, what
-- is to be said of that.
local function folder_of(where)
  local hub, shown = require "wane.hub", fingerprint.shown(where)
  if core.files.kind(where) then return where end
  if hub.parse(where) and not core.files.kind(where:match "^[^/]+") then
    local ok, found = pcall(hub.get, where, { offline = true })
    if ok then return found.dir end
    return where, ("%s: there is no such folder, and the Hub's cache has no whole model of that id; it is fetched "
      .. "with: wane get %s"):format(shown, shown)
  end
  local meant = require "wane.paths".near(where)
  return where, meant and ("%s: there is no such folder; did you mean %s?"):format(shown, fingerprint.shown(meant))
end

--- Looks a folder over and tells all that is wrong with it.
-- @param dir string  a folder with config.json and safetensors, or a Hub id whose files the cache has
-- @param given options: deep, verify
-- @return { dir, fine, problems = { { part, code, message, path, tensor } }, more, warnings, parts, model, quantize }
-- @error oom, interrupted; what is wrong with the folder is in problems, and not raised
-- @usage print(wane.check("examples/models/lune-1m").fine)
function check.run(dir, given)
  local o = options.check(check.spec, given, "wane.check")
  if type(dir) ~= "string" then error("wane.check takes a folder, not a " .. type(dir), 2) end
  local absent
  dir, absent = folder_of(dir)
  local survey = core.check.survey(dir)
  local page = { dir = dir, problems = survey.problems, more = survey.more, warnings = survey.warnings,
                 model = survey, parts = {} }
  survey.problems, survey.more, survey.warnings = nil, nil, nil
  if absent and page.problems[1] then page.problems[1].message = absent end
  if core.files.kind(dir) == "directory" then
    look_at_generation(page, dir)
    local generation = table.remove(page.parts)
    note_files(page, dir)
    look_at_files(page)
    local tokenizer = look_at_tokenizer(page, dir)
    look_at_template(page, dir, tokenizer)
    page.parts[#page.parts + 1] = generation
    look_at_numbers(page, dir, o.deep)
    look_at_hashes(page, dir, o.verify)
    look_at_use(page, dir)
  end
  page.fine = #page.problems == 0
  for _, name in ipairs { "problems", "warnings", "parts" } do core.json.array(page[name]) end
  return page
end

return setmetatable(check, { __call = function(_, dir, given) return check.run(dir, given) end })
