-- Mistral: tokenizers whose contents are text, the same ids and texts as Hugging Face's tokenizers 0.23, files that are
-- refused; and a whole checkpoint. tests/reference/mistral.py made all that is compared with.
local wane = require "wane"
local core = wane.core
local json, tokenizer = core.json, core.tokenizer

local FOLDER <const> = "tests/reference/mistral"
local cases = json.load("tests/reference/tokenizer_mistral.json").cases

--- The tokenizer of the folder with parts replaced; "model.x" is one of the model's.
local function file(replace)
  local tree = json.load(FOLDER .. "/tokenizer.json")
  for key, value in pairs(replace) do
    local part = key:match "^model%.(.*)$"
    if part then tree.model[part] = value else tree[key] = value end
  end
  return json.encode(tree)
end

local function build(replace) return tokenizer.parse(file(replace), "case.json") end

local function show(ids) return table.concat(ids, " ") end

describe("a tokenizer whose contents are text", function()
  for _, case in ipairs(cases) do
    it("works as the reference: " .. case.name, function()
      local t <close> = build(case.replace)
      for _, row in ipairs(case.texts) do
        assert.equal(show(row.ids), show(t:encode(row.text)), row.text)
        assert.equal(show(row.special or row.ids), show(t:encode(row.text, { special = true })), row.text)
        assert.equal(show(row.plain or row.ids), show(t:encode(row.text, { plain = true })), row.text)
        assert.equal(row.decoded or row.text, t:decode(row.ids), row.text)
        assert.equal(row.skipped or row.text, t:decode(row.ids, { skip_special = true }), row.text)
      end
      for _, row in ipairs(case.decodes) do assert.equal(row.text, t:decode(row.ids), show(row.ids)) end
    end)
  end
end)

describe("the bytes of single tokens", function()
  it("are those of the text, but for the space that it begins with", function()
    local texts = 0
    for i = 1, 4 do
      local t <close> = build(cases[i].replace)
      for _, row in ipairs(cases[i].texts) do
        local bytes = {}
        for k, id in ipairs(row.ids) do bytes[k] = t:bytes(id) end
        local whole = table.concat(bytes)
        if i < 4 then whole = whole:gsub("^ ", "") end
        assert.equal(row.decoded or row.text, whole)
        texts = texts + 1
      end
    end
    assert.is_true(texts > 200)
  end)

  it("are bytes, spaces and contents as the decoder has them", function()
    local t <close> = tokenizer.load(FOLDER)
    assert.equal("\n", t:bytes(t:id "<0x0A>"))
    assert.equal("\xf0", t:bytes(t:id "<0xF0>"))
    assert.equal(" ", t:bytes(t:id "▁"))
    assert.equal(" the", t:bytes(t:id "▁the"))
    assert.equal("▁the", t:token(t:id "▁the"))
    assert.equal("</s>", t:bytes(2))
    assert.is_true(t:is_special(2))
    assert.equal(1400, #t)
  end)
end)

describe("a text without a pre-tokenizer", function()
  -- no merge reaches over the place before a "▁", so words are merged one by one; with one that never applies, all at once
  it("is merged in parts or as a whole, with the same result", function()
    local tree = json.load(FOLDER .. "/tokenizer.json")
    tree.model.vocab["\u{e000}"], tree.model.vocab["\u{e000}▁"] = 1400, 1401
    tree.model.merges[#tree.model.merges + 1] = "\u{e000} ▁"
    local parts <close> = tokenizer.load(FOLDER)
    local whole <close> = tokenizer.parse(json.encode(tree))
    assert.equal(1401, whole:encode("\u{e000} ")[2])
    local words = { "the", " moon", "▁", "  ", " ▁ ", "é", "\u{301}", "🙂", "月亮", "\n", "123", "wanes", "<s>", ("a"):rep(140) }
    local random = 1
    for _ = 1, 400 do
      local text = {}
      for k = 1, 1 + random % 40 do
        random = (random * 1103515245 + 12345) & 0x7fffffff
        text[k] = words[1 + (random >> 8) % #words]
      end
      text = table.concat(text)
      assert.equal(show(whole:encode(text)), show(parts:encode(text)), text)
    end
  end)
end)

describe("a token spelled like a byte", function()
  local small = { "a", "<0xZZ>", "<0x41>", "<0x4g>", "<0x4a>", "<unk>", "<0x041>", "<0X41>" }
  local function of(model)
    local vocab = {}
    for i, content in ipairs(small) do vocab[content] = i - 1 end
    local m = { type = "BPE", vocab = vocab, merges = json.array {}, unk_token = "<unk>", byte_fallback = true }
    for key, value in pairs(model or {}) do m[key] = value end
    return { model = m, added_tokens = json.array {}, post_processor = json.null, normalizer = json.null }
  end

  it("is none with other digits, or other than two", function()
    local t <close> = build(of())
    assert.equal("a<0xZZ>A<0x4g>J<unk><0x041><0X41>", t:decode { 0, 1, 2, 3, 4, 5, 6, 7 })
    assert.equal("0 2 5", show(t:encode "aAJ")) -- a capital A has its byte; <0x4a> is not how encoding spells one
  end)
  it("stands for nothing without a ByteFallback that decodes", function()
    local replace = of()
    replace.decoder = { type = "Fuse" }
    local t <close> = build(replace)
    assert.equal("<0x41>", t:decode { 2 })
    assert.equal("2", show(t:encode "A"))
  end)
  it("is missing: the character is unknown", function()
    local t <close> = build(of())
    assert.equal("5 5 0", show(t:encode "é🙂a"))
    local fused <close> = build(of { fuse_unk = true })
    assert.equal("5 0", show(fused:encode "é🙂a"))
  end)
  it("is missing, and nothing stands for what is unknown", function()
    local ok, err = pcall(build, of { unk_token = json.null })
    assert.is_false(ok)
    assert.equal("format", err.code)
    assert.matches("without a token <0x00> and without an unk_token", err.message)
  end)
end)

local function pre(value) return { normalizer = json.null, pre_tokenizer = value } end
local function metaspace(change)
  local m = { type = "Metaspace", replacement = "▁", prepend_scheme = "first", split = false }
  for key, value in pairs(change) do m[key] = value end
  return m
end
local function replace_step(from, to) return { type = "Replace", pattern = { String = from }, content = to } end
local function strip(change)
  local s = { type = "Strip", content = " ", start = 1, stop = 0 }
  for key, value in pairs(change) do s[key] = value end
  return s
end
local function many(what, key, n)
  local list = {}
  for i = 1, n do list[i] = what end
  return { type = "Sequence", [key] = list }
end
local bytes = { type = "ByteLevel", add_prefix_space = false, trim_offsets = true, use_regex = true }

local wrong = {
  { "an unknown normalizer", { normalizer = { type = "Lowercase" } }, "unsupported",
    'normalizer "Lowercase" .* it reads NFC, Prepend, Replace' },
  { "a Prepend without its text", { normalizer = { type = "Prepend" } }, "format", "Prepend: its \"prepend\" is not a" },
  { "a Replace by a regular expression", { normalizer = { type = "Replace", pattern = { Regex = " +" },
    content = "▁" } }, "unsupported", "a Replace by a pattern" },
  { "a Replace without a pattern", { normalizer = { type = "Replace", content = "x" } }, "format", "Replace: its pattern" },
  { "a Replace of nothing", { normalizer = replace_step("", "x") }, "format", "pattern .* is empty" },
  { "a Replace without a content", { normalizer = replace_step("x") }, "format", 'its "content" is not a string' },
  { "a Replace that is long", { normalizer = replace_step("x", ("x"):rep(1025)) }, "unsupported", "1025 bytes" },
  { "texts that grow", { normalizer = replace_step("x", ("x"):rep(17)) }, "unsupported", "17 times as long" },
  { "texts that grow together", { normalizer = many(replace_step("x", "xxx"), "normalizers", 3) },
    "unsupported", "27 times as long" },
  { "many normalizers", { normalizer = many(replace_step("x", "y"), "normalizers", 17) }, "unsupported", "more than 16" },
  { "a Metaspace of two characters", pre(metaspace { replacement = "ab" }), "format", "not one character" },
  { "a Metaspace of none", pre(metaspace { replacement = "" }), "format", "not one character" },
  { "a Metaspace with another scheme", pre(metaspace { prepend_scheme = "last" }), "unsupported", "prepend_scheme" },
  { "a Metaspace whose scheme is a number", pre(metaspace { prepend_scheme = 1 }), "format", "prepend_scheme" },
  { "a Metaspace that contradicts itself", pre(metaspace { add_prefix_space = false }), "format", "add_prefix_space false" },
  { "a Metaspace with an odd prefix", pre(metaspace { add_prefix_space = 1 }), "format", "add_prefix_space" },
  { "a Metaspace with an odd split", pre(metaspace { split = 1 }), "format", '"split"' },
  { "two Metaspaces", pre(many(metaspace {}, "pretokenizers", 2)), "unsupported", "a pre_tokenizer after Metaspace" },
  { "a first that is lost", { normalizer = replace_step("x", ""), pre_tokenizer = metaspace {} }, "unsupported",
    "a Replace by nothing before a Metaspace" },
  { "no decoder", { decoder = json.null }, "unsupported", "no decoder" },
  { "an unknown decoder", { decoder = { type = "CTC" } }, "unsupported", 'decoder "CTC" .* it reads ByteLevel, Metaspace' },
  { "a ByteLevel decoder", { decoder = bytes }, "unsupported", "no ByteLevel pre_tokenizer" },
  { "a ByteLevel pre-tokenizer", { pre_tokenizer = bytes }, "unsupported", "no ByteLevel decoder" },
  { "a ByteLevel decoder among others", { decoder = { type = "Sequence", decoders = { bytes, { type = "Fuse" } } } },
    "unsupported", "with others beside it" },
  { "a Strip of two characters", { decoder = strip { content = "ab" } }, "format", "not one character" },
  { "a Strip that begins nowhere", { decoder = strip { start = -1 } }, "format", '"start"' },
  { "a Strip without an end", { decoder = strip { stop = json.null } }, "format", '"stop"' },
  { "many decoders", { decoder = many({ type = "Fuse" }, "decoders", 17) }, "unsupported", "more than 16" },
  { "an unk_token that is none", { ["model.unk_token"] = "<nope>" }, "format", 'unk_token "<nope>" is not in' },
  { "an unk_token that is a number", { ["model.unk_token"] = 0 }, "format", "unk_token is not a string" },
  { "a byte_fallback that is a number", { ["model.byte_fallback"] = 1 }, "format", "byte_fallback is not a boolean" },
  { "a fuse_unk that is a text", { ["model.fuse_unk"] = "yes" }, "format", "fuse_unk is not a boolean" },
  { "characters that would be left out", { ["model.unk_token"] = json.null, ["model.byte_fallback"] = false },
    "unsupported", "neither an unk_token nor byte_fallback" },
  { "a merge of an absent token", { ["model.merges"] = { "▁ t", "▁t zz" } }, "format",
    'merge 1, "▁t" with "zz": the second' },
  { "a merge into an absent token", { ["model.merges"] = { "▁ ▁", "▁▁ ▁the" } }, "format", "merge 1, .*: the result" },
  { "an added token that is nothing once normalized", { normalizer = replace_step("<s>", ""), added_tokens = { {
    id = 1, content = "<s>", single_word = false, lstrip = false, rstrip = false, normalized = true, special = true,
  } } }, "format", '"<s>" is nothing once normalized' },
}

describe("a file is refused for", function()
  for _, row in ipairs(wrong) do
    it(row[1], function()
      local ok, err = pcall(build, row[2])
      assert.is_false(ok, "was read")
      assert.equal(core.error, getmetatable(err))
      assert.equal(row[3], err.code, err.message)
      assert.matches("^case%.json: ", err.message)
      assert.matches(row[4], err.message)
    end)
  end
end)

describe("what a decoder strips", function()
  it("may stand at both ends, and be all there is", function()
    local t <close> = build { decoder = { type = "Sequence", decoders = { replace_step("▁", " "), { type = "Fuse" },
                                                                          strip { start = 2, stop = 3 } } } }
    for text, expected in pairs { ["a"] = "a", ["  a  "] = " a", ["   a    "] = "  a ", ["     "] = " ", [""] = "" } do
      assert.equal(expected, t:decode(t:encode(text)), text)
    end
  end)
end)

local families = require "support.families"
local expected = json.load(FOLDER .. "/expected.json").chats

-- The checkpoint's folder with something else in it; change[name](text) -> text
local function folder_with(change)
  local folder = families.folder()
  for _, name in ipairs { "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                          "tokenizer_config.json" } do
    local text = core.files.read(FOLDER .. "/" .. name)
    core.files.write(folder.path .. "/" .. name, change[name] and change[name](text) or text)
  end
  return folder
end

describe("a Mistral checkpoint", function()
  it("chats as with Transformers: prompts, ids, greedy answers, their text", function()
    local model <close> = wane.load(FOLDER)
    assert.equal(3, #expected)
    local prompts = {}
    for i, row in ipairs(expected) do
      local ids, text = model.tokenizer:prompt(row.messages, { add_generation_prompt = true })
      assert.equal(row.prompt, text)
      assert.equal(show(row.ids), show(ids))
      prompts[i] = ids
    end
    for i, out in ipairs(model:generate(prompts, { max_tokens = 24 })) do
      assert.equal(show(expected[i].answer), show(out.ids))
      assert.equal(expected[i].text, out.text)
    end
  end)

  it("ends an answer at a text that several tokens make", function()
    local model <close> = wane.load(FOLDER)
    local all = model:generate({ expected[3].ids }, { max_tokens = 24 })[1].text
    local stop = all:sub(12, 16)
    local out = model:generate({ expected[3].ids }, { max_tokens = 24, stop = { stop } })[1]
    assert.equal("stop", out.finish)
    assert.equal(all:sub(1, all:find(stop, 1, true) - 1), out.text)
  end)

  it("is scored, quantized, saved and evaluated with its tokenizer", function()
    local model <close> = wane.load(FOLDER)
    local score = model:score({ { "The moon", " wanes." } })[1]
    assert.equal(#model.tokenizer:encode "The moon wanes." - #model.tokenizer:encode "The moon", score.tokens)
    assert.is_true(model:perplexity("The moon wanes over the river, and the sea with it.").tokens > 10)
    local folder <close> = families.folder()
    local calib = wane.calibration { file = "examples/data/calibration.jsonl", samples = 96, tokens = 64 }
    local small <close> = wane.quantize(model, wane.gptq { bits = 4, group_size = -1 }, calib,
      { out = folder.path .. "/w4" })
    assert.equal("Why?", small.tokenizer:decode(small.tokenizer:encode "Why?"))
    local again <close> = wane.load(folder.path .. "/w4")
    local result = wane.evaluate(again, { tasks = { "arc", "squad_v2" }, data = "examples/data", trunc_eval = 2,
                                          max_tokens = 8 })
    assert.equal(4, result.n)
    assert.matches("^<s>%[INST%] You are taking a multiple%-choice test", result.samples[1].prompt)
    assert.is_nil(table.concat(result.warnings, "\n"):find("system message", 1, true))
  end)

  it("may have a template that knows no system message: its words come before the question", function()
    local folder <close> = folder_with { ["tokenizer_config.json"] = function(text)
      local config = json.decode(text)
      config.chat_template = "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        .. "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        .. "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}"
        .. "{{ m['content'] + eos_token }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
        .. "{% endif %}{% endfor %}"
      return json.encode(config)
    end }
    local model <close> = wane.load(folder.path)
    local messages = { { role = "system", content = "Be brief." }, { role = "user", content = "Why?" } }
    local ids, text, about = model.tokenizer:prompt(messages, { add_generation_prompt = true })
    assert.equal("<s>[INST] Be brief.\n\nWhy? [/INST]", text)
    assert.equal(show(ids), show(model.tokenizer:encode(text)))
    assert.is_true(about.folded)
    assert.equal("Why?", messages[2].content)
    local ok, err = pcall(model.tokenizer.chat, model.tokenizer, { messages[1], messages[1], messages[2] })
    assert.is_false(ok)
    assert.matches("must alternate", err.message)
    assert.is_false((pcall(model.tokenizer.chat, model.tokenizer, { messages[1] })))
    local result = wane.evaluate(model, { tasks = { "arc" }, data = "examples/data", trunc_eval = 1, max_tokens = 4 })
    assert.matches("refuses a system message", table.concat(result.warnings, "\n"))
    assert.matches("^<s>%[INST%] You are taking .*\n\n", result.samples[1].prompt)
  end)

  it("passes wane check in every variant of its tokenizer, with what it cannot give back", function()
    for i = 1, 4 do
      local folder <close> = folder_with { ["tokenizer.json"] = function() return file(cases[i].replace) end }
      local page = wane.check(folder.path)
      assert.is_true(page.fine, page.problems[1] and page.problems[1].message)
      local told = table.concat(page.warnings, "\n"):find("alike with and without a space", 1, true)
      assert.equal(i == 2 or i == 3, told ~= nil, cases[i].name)
    end
    local folder <close> = folder_with { ["tokenizer.json"] = function()
      return file { decoder = { type = "Sequence", decoders = { { type = "Fuse" } } } }
    end }
    local page = wane.check(folder.path)
    assert.is_false(page.fine)
    assert.equal("tokenizer", page.problems[1].part)
  end)
end)
