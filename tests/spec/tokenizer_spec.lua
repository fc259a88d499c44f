-- Tokenizers: the same ids and texts as Hugging Face's tokenizers 0.23, and files that are refused.
local core = require "wane.core"
local json, tokenizer = core.json, core.tokenizer

local reference = json.load "tests/reference/tokenizer_cases.json"

--- The base file of the cases with parts replaced, as JSON.
local function file(replace)
  local text = json.encode(reference.base)
  local tree = json.decode(text)
  for key, value in pairs(replace or {}) do
    local part = key:match "^model%.(.*)$"
    if part then tree.model[part] = value else tree[key] = value end
  end
  return tree
end

local function build(replace) return tokenizer.parse(json.encode(file(replace)), "case.json") end

local function show(ids) return table.concat(ids, " ") end

describe("a tokenizer of a real model", function()
  for _, name in ipairs { "qwen3", "llama3_1" } do
    it("gives what the reference gives: " .. name, function()
      local path = os.tmpname()
      finally(function() os.remove(path) end)
      assert(os.execute(("gunzip -c tests/reference/tokenizers/%s/tokenizer.json.gz > %s"):format(name, path)))
      local t <close> = tokenizer.load(path)
      local rows = json.load(("tests/reference/tokenizer_%s.json"):format(name)).tokenize
      assert.equal(165, #rows)
      for _, row in ipairs(rows) do
        assert.equal(show(row.ids), show(t:encode(row.text)), row.text)
        assert.equal(show(row.ids_special), show(t:encode(row.text, { special = true })), row.text)
        assert.equal(row.decoded, t:decode(row.ids), row.text)
      end
    end)
  end
end)

describe("every component", function()
  for _, case in ipairs(reference.cases) do
    it("works as the reference: " .. case.name, function()
      local t <close> = build(case.replace)
      for _, row in ipairs(case.texts) do
        assert.equal(show(row.ids), show(t:encode(row.text)), row.text)
        assert.equal(show(row.special or row.ids), show(t:encode(row.text, { special = true })), row.text)
        assert.equal(show(row.plain or row.ids), show(t:encode(row.text, { plain = true })), row.text)
        assert.equal(row.decoded or row.text, t:decode(row.ids), row.text)
        assert.equal(row.skipped or row.text, t:decode(row.ids, { skip_special = true }), row.text)
      end
    end)
  end
end)

local null = json.null

--- Fails unless the file is refused with that code and a message that matches.
local function refused(replace, code, message)
  local text = type(replace) == "string" and replace or json.encode(file(replace))
  local ok, err = pcall(tokenizer.parse, text, "bad.json")
  assert.is_false(ok, "was read")
  assert.equal(core.error, getmetatable(err))
  assert.equal(code, err.code, err.message)
  assert.equal("bad.json", err.path)
  assert.matches("^bad%.json", err.message)
  assert.matches(message, err.message)
end

local function vocab(change)
  local v = file().model.vocab
  change(v)
  return { ["model.vocab"] = v }
end

local bytes = { type = "ByteLevel", add_prefix_space = false, trim_offsets = true, use_regex = true }

local function steps(...) return { type = "Sequence", pretokenizers = { ..., bytes } } end

local function split(pattern, more)
  local s = { type = "Split", pattern = { Regex = pattern }, behavior = "Isolated", invert = false }
  for key, value in pairs(more or {}) do s[key] = value end
  return { pre_tokenizer = steps(s) }
end

local function added(...)
  local list = {}
  for i, change in ipairs { ... } do
    local token = { id = 282 + i, content = "<" .. i .. ">", single_word = false, lstrip = false, rstrip = false,
                    normalized = false, special = true }
    for key, value in pairs(change) do token[key] = value end
    list[i] = token
  end
  return { added_tokens = list }
end

local function template(single, ids)
  local list = added {}
  list.post_processor = { type = "TemplateProcessing", single = single, pair = {},
                          special_tokens = { ["<1>"] = { id = "<1>", ids = ids, tokens = { "<1>" } } } }
  return list
end

local function nested(kind, list, depth)
  local value = { type = kind }
  for _ = 1, depth do value = { type = "Sequence", [list] = { value } } end
  return value
end

local A = { Sequence = { id = "A", type_id = 0 } }
local one = { SpecialToken = { id = "<1>", type_id = 0 } }

local wrong = {
  -- the file
  { "nothing", "", "format", "" },
  { "a list", "[]", "format", "not a JSON object" },
  { "cut off", '{"model":', "format", "" },
  { "the same key twice", '{"model":1,"model":2}', "format", "" },
  { "another version", { version = "2.0" }, "unsupported", "version" },
  { "a version that is no string", { version = 1 }, "unsupported", "version" },
  -- components
  { "an unknown normalizer", { normalizer = { type = "NFKC" } }, "unsupported", 'normalizer "NFKC"' },
  { "an unknown one in a sequence", { normalizer = { type = "Sequence", normalizers = { { type = "NFC" },
    { type = "Strip" } } } },
    "unsupported", 'normalizer "Strip"' },
  { "a sequence without a list", { normalizer = { type = "Sequence" } }, "format", "normalizers" },
  { "sequences without end", { normalizer = nested("NFC", "normalizers", 20) }, "unsupported", "nested" },
  { "a normalizer that is a string", { normalizer = "NFC" }, "format", "normalizer" },
  { "no pre-tokenizer", { pre_tokenizer = null }, "unsupported", "no ByteLevel pre_tokenizer" },
  { "an unknown pre-tokenizer", { pre_tokenizer = { type = "Whitespace" } },
    "unsupported", 'pre_tokenizer "Whitespace".*it reads ByteLevel, Metaspace' },
  { "an unknown one in a sequence", { pre_tokenizer = steps { type = "Punctuation" } },
    "unsupported", 'pre_tokenizer "Punctuation"' },
  { "a split after ByteLevel", { pre_tokenizer = { type = "Sequence", pretokenizers = { bytes, bytes } } },
    "unsupported", "after ByteLevel" },
  { "ByteLevel without its flags", { pre_tokenizer = { type = "ByteLevel" } }, "format", "add_prefix_space" },
  { "a flag that is no boolean", { pre_tokenizer = { type = "ByteLevel", add_prefix_space = 1,
    trim_offsets = true } }, "format", "add_prefix_space" },
  { "digits without their flag", { pre_tokenizer = steps { type = "Digits" } }, "format", "individual_digits" },
  { "an unknown decoder", { decoder = { type = "WordPiece" } }, "unsupported", 'decoder "WordPiece"' },
  { "no decoder", { decoder = null }, "unsupported", "no ByteLevel decoder" },
  { "two decoders", { decoder = { type = "Sequence", decoders = { bytes, bytes } } }, "unsupported", "twice" },
  { "an unknown post-processor", { post_processor = { type = "BertProcessing" } },
    "unsupported", 'post_processor "BertProcessing"' },
  -- splits
  { "a split without a pattern", split("x", { pattern = {} }), "format", "pattern" },
  { "a split without a behavior", split("x", { behavior = null }), "format", "behavior" },
  { "an unknown behavior", split("x", { behavior = "Sideways" }), "unsupported", 'split behavior "Sideways"' },
  { "a split without invert", split("x", { invert = null }), "format", "invert" },
  { "a pattern that does not compile", split "(a", "unsupported", "does not compile near byte 2" },
  { "a pattern too long", split(("a"):rep(4097)), "unsupported", "4097 bytes" },
  { "a script that nobody knows", split "\\p{Klingon}", "unsupported", "does not compile" },
  { "a class by a long name", split "\\p{Letter}", "unsupported", "does not compile" },
  -- merges and tokens
  { "no model", { model = null }, "format", "model" },
  { "another model", { ["model.type"] = "Unigram" }, "unsupported", 'model type "Unigram"' },
  { "a model type that is no string", { ["model.type"] = 7 }, "format", "type" },
  { "a prefix", { ["model.continuing_subword_prefix"] = "##" }, "unsupported", "continuing_subword_prefix" },
  { "a suffix", { ["model.end_of_word_suffix"] = "</w>" }, "unsupported", "end_of_word_suffix" },
  { "a dropout", { ["model.dropout"] = 0.1 }, "unsupported", "dropout" },
  { "ignore_merges that is no boolean", { ["model.ignore_merges"] = 1 }, "format", "ignore_merges" },
  { "no vocabulary", { ["model.vocab"] = null }, "format", "vocab" },
  { "no merges", { ["model.merges"] = null }, "format", "merges" },
  { "a merge of an unknown first", { ["model.merges"] = { "h e", "zz e" } },
    "format", 'merge 1, "zz" with "e": the first' },
  { "a merge of an unknown second", { ["model.merges"] = { "h zz" } },
    "format", 'merge 0, "h" with "zz": the second' },
  { "a merge into nothing", { ["model.merges"] = { "h e", "l l", "z z" } },
    "format", 'merge 2, "z" with "z": the result' },
  { "a merge of one", { ["model.merges"] = { "he" } }, "format", "merge 0 is neither" },
  { "a merge of three", { ["model.merges"] = { "h e l" } }, "format", "merge 0 is neither" },
  { "a merge with an empty half", { ["model.merges"] = { " e" } }, "format", "merge 0" },
  { "a merge that is a number", { ["model.merges"] = { 7 } }, "format", "merge 0 is neither" },
  { "a merge list of three", { ["model.merges"] = { { "h", "e", "l" } } }, "format", "merge 0 is neither" },
  { "a merge list of numbers", { ["model.merges"] = { { 1, 2 } } }, "format", "merge 0 is neither" },
  { "a negative id", vocab(function(v) v["he"] = -1 end), "format", 'token "he"' },
  { "a huge id", vocab(function(v) v["he"] = 1 << 31 end), "format", 'token "he"' },
  { "the first id too high", vocab(function(v) v["he"] = 4194304 end), "format", 'token "he".*4194303' },
  { "an id that is a fraction", vocab(function(v) v["he"] = 1.5 end), "format", 'token "he"' },
  { "an id that is a string", vocab(function(v) v["he"] = "1" end), "format", 'token "he"' },
  { "an id twice", vocab(function(v) v["he"] = v["ll"] end), "format", '"[hl][el]" and "[hl][el]" both have id 257' },
  { "a token too long", vocab(function(v) v[("x"):rep(65536)] = 500 end), "format", "65536 bytes" },
  { "no token for a byte", vocab(function(v) v["A"] = nil end), "format", "no token for byte 0x41" },
  -- added tokens
  { "added tokens that are no list", { added_tokens = { a = 1 } }, "format", "not a list" },
  { "an added token without content", added { content = null }, "format", "added token 0 has no content" },
  { "an added token that is empty", added({}, { content = "" }), "format", "added token 1 has no content" },
  { "an added token too long", added { content = ("x"):rep(1025) }, "format", "1025 bytes" },
  { "an added token without an id", added { id = null }, "format", '"<1>": its id' },
  { "a negative added id", added { id = -5 }, "format", '"<1>": its id' },
  { "an added id of another token", added { id = 7 }, "format", '"<1>" has id 7, which is' },
  { "an added id that leaves a gap", added { id = 300 }, "format", '"<1>" has id 300, but the next free one is 283' },
  { "an added id of another added token", added({}, { id = 283 }), "format", '"<2>" has id 283, which is "<1>"' },
  { "an added token twice", added({}, { content = "<1>" }), "format", "there twice" },
  { "a token of the model under another id", added { content = "he" }, "format", 'in the vocabulary it is 256' },
  { "an added token without a flag", added { lstrip = null }, "format", "lstrip" },
  { "an added token with a wrong flag", added { special = 1 }, "format", "special" },
  -- templates
  { "a template without single", template(null, { 283 }), "format", "single" },
  { "a template without its text", template({ one }, { 283 }), "format", "does not hold its text" },
  { "a template with two texts", template({ A, A }, { 283 }), "unsupported", "twice" },
  { "a template with the second text", template({ { Sequence = { id = "B" } } }, { 283 }), "format", "sequence A" },
  { "a template with an unknown id", template({ one, A }, { 284 }), "format", "an id that no token has" },
  { "a template with a negative id", template({ one, A }, { -1 }), "format", "an id that no token has" },
  { "a template without ids", template({ one, A }, null), "format", '"<1>" has no ids' },
  { "a template of a token it does not list", template({ { SpecialToken = { id = "<2>" } }, A }, { 283 }),
    "format", '"<2>" has no ids' },
}

describe("a file is refused for", function()
  for _, row in ipairs(wrong) do
    it(row[1], function() refused(row[2], row[3], row[4]) end)
  end

  -- what Oniguruma and PCRE2 read differently
  for _, pattern in ipairs {
    "^a", "a$", "[a[b]]", "[a&&b]", "[[:alpha:]]", "[]a]", "[^]a]", "\\h", "\\R", "\\X", "\\K", "\\G", "\\A",
      "\\z", "\\b",
    "\\B", "\\C", "\\1", "\\k<a>", "\\g1", "\\x41", "\\xe9", "\\012", "\\u12", "\\u12g4", "\\pL", "\\p{",
      "\\p{L&}", "\\", "[\\S]", "[\\W]",
    "(?i)a", "(?m:a)", "(?x: a)", "(?#a)", "(?<n>a)", "(?R)", "(?1)", "(?C1)", "(?(1)a)", "(?|a)", "(*UTF)",
      "a{,2}", "a{2}+", "a{2}?",
  } do
    it("the pattern " .. pattern, function() refused(split(pattern), "unsupported", "split pattern") end)
  end
end)

describe("a tokenizer file may", function()
  it("have ids that no token has", function()
    local v = file().model.vocab
    v["Ġhello"] = 400
    local t <close> = build { ["model.vocab"] = v }
    assert.equal(401, #t)
    assert.is_nil(t:token(350))
    assert.is_false(t:is_special(350))
    assert.equal("ab", t:decode { 97, 350, 4000, 98 })
  end)
  it("name a truncation and a padding, which are each call's own", function()
    local t <close> = build { truncation = { max_length = 1 }, padding = { length = 9 } }
    assert.equal(3, #t:encode "xyz")
  end)
  it("lack what the library fills in", function()
    local tree = file { added_tokens = nil }
    tree.added_tokens, tree.version, tree.normalizer, tree.post_processor = nil, nil, nil, nil
    tree.model = { vocab = tree.model.vocab, merges = tree.model.merges }
    local t <close> = tokenizer.parse(json.encode(tree))
    assert.equal("hello", t:decode(t:encode "hello"))
  end)
end)

describe("a pattern that cannot end", function()
  it("is stopped, with the place in the text", function()
    local t <close> = build(split "(a+)+[yz]")
    local text = ("x"):rep(10) .. ("a"):rep(60)
    local start = os.clock()
    local ok, err = pcall(t.encode, t, text)
    assert.is_false(ok)
    assert.equal("unsupported", err.code)
    assert.matches("gave up after byte", err.message)
    assert.is_true(err.offset >= 0 and err.offset <= 10)
    assert.is_true(os.clock() - start < 2)
    assert.equal(2, #t:encode "xy")
  end)
end)

describe("in Lua a tokenizer", function()
  local t
  before_each(function()
    t = build(added({}, { special = false }))
  end)
  after_each(function() t:close() end)

  it("tells its size, its tokens and itself", function()
    assert.equal(285, #t)
    assert.equal("tokenizer (285 tokens)", tostring(t))
    assert.equal("Ġworld", t:token(t:id "Ġworld"))
    assert.equal(" world", t:bytes(t:id "Ġworld"))
    assert.equal("\xc3", t:bytes(0xc3))
    assert.is_nil(t:id "nothing")
    assert.is_nil(t:token(99999))
    assert.is_true(t:is_special(283))
    assert.is_false(t:is_special(284))
    assert.is_nil(t.path)
  end)
  it("keeps special tokens out of plain text, and others in", function()
    assert.equal("283 284", show(t:encode "<1><2>"))
    assert.equal("60 49 62 284", show(t:encode("<1><2>", { plain = true })))
    assert.equal("<1><2>", t:decode { 283, 284 })
    assert.equal("<2>", t:decode({ 283, 284 }, { skip_special = true }))
  end)
  it("reads ill-formed UTF-8 as U+FFFD, and gives it for bytes that are none", function()
    local instead = "\u{fffd}"
    for _, row in ipairs {
      { "a\xffb", "a" .. instead .. "b" }, { "\xe2\x82", instead }, { "\xf0\x9f\x98x", instead .. "x" },
      { "\xed\xa0\x80", instead:rep(3) }, { "\xc0\xaf", instead:rep(2) }, { "\xf4\x90\x80\x80", instead:rep(4) },
    } do
      assert.equal(show(t:encode(row[2])), show(t:encode(row[1])))
      local ids = {}
      for i = 1, #row[1] do ids[i] = row[1]:byte(i) end
      assert.equal(row[2], t:decode(ids))
    end
  end)
  it("takes nothing for nothing", function()
    assert.equal("", show(t:encode ""))
    assert.equal("", t:decode {})
    assert.equal("a\0b", t:decode(t:encode "a\0b"))
  end)
  it("refuses wrong arguments as bugs", function()
    for _, call in ipairs {
      function() t:encode() end, function() t:encode("x", { plian = true }) end, function() t:encode("x",
        { plain = 1 }) end,
      function() t:decode "x" end, function() t:decode { -1 } end, function() t:decode { 1.5 } end,
        function() t:decode { "1" } end,
      function() t:decode { 1 << 31 } end, function() t:decode({ 1 }, { skip = true }) end,
        function() t:token "x" end, function() t:id() end,
    } do
      local ok, err = pcall(call)
      assert.is_false(ok)
      assert.is_string(err)
    end
  end)
  it("can be closed twice, and says that it is closed", function()
    t:close()
    t:close()
    assert.equal("tokenizer (closed)", tostring(t))
    assert.has_error(function() t:encode "x" end)
    assert.has_error(function() return #t end)
  end)
  it("is found in a folder, and missed by name", function()
    local found <close> = require "wane.tokenizer" "examples/models/lune-1m"
    assert.equal(1024, #found)
    assert.equal("examples/models/lune-1m", found.path)
    local ok, err = pcall(tokenizer.load, "examples/models")
    assert.is_false(ok)
    assert.equal("io", err.code)
    assert.matches("tokenizer%.json", err.path)
  end)
end)

describe("the table of character classes", function()
  it("is what its script writes", function()
    if not io.open "/usr/share/unicode/UnicodeData.txt" then return pending "needs Debian's unicode-data" end
    local pipe <close> = assert(io.popen "lua5.4 runtime/text/generate_classes.lua")
    local made <close> = assert(io.open "runtime/text/generated/classes.h")
    assert.is_true(pipe:read "a" == made:read "a")
  end)
end)
