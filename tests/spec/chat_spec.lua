-- Chats: the prompts of real templates to the byte, which template is taken, what is refused.
assert(_VERSION == "Lua 5.4", _VERSION)
local lfs = require "lfs"
local chat = require "wane.chat"
local json = require "wane.json"
local tasks = require "wane.tasks"
local template = require "wane.template"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

local function load_json(path) return json.decode(read(path)) end

local made = {}

--- A new folder with files: { ["a/b.jinja"] = text }.
local function folder(files)
  local dir = os.tmpname()
  os.remove(dir)
  assert(lfs.mkdir(dir))
  made[#made + 1] = dir
  for name, text in pairs(files) do
    local inner = name:match "^(.*)/"
    if inner then lfs.mkdir(dir .. "/" .. inner) end
    local file = assert(io.open(dir .. "/" .. name, "wb"))
    file:write(type(text) == "table" and json.encode(text) or text)
    file:close()
  end
  return dir
end

local function remove(path)
  if lfs.attributes(path, "mode") == "directory" then
    for name in lfs.dir(path) do
      if name ~= "." and name ~= ".." then remove(path .. "/" .. name) end
    end
  end
  os.remove(path)
end

local function failure(...)
  local ok, e = pcall(...)
  assert.is_false(ok)
  assert.equal("table", type(e), tostring(e))
  return e
end

local HELLO = { { role = "user", content = "hi" } }

describe("chats", function()
  teardown(function()
    for _, dir in ipairs(made) do
      remove(dir)
    end
  end)

  for _, name in ipairs { "qwen3", "llama3_1" } do
    it("become what Transformers makes of them: " .. name, function()
      local found = chat.find("tests/reference/tokenizers/" .. name)
      local records = load_json(("tests/reference/tokenizer_%s.json"):format(name)).chat
      assert.equal(25, #records)
      for _, record in ipairs(records) do
        local options = {}
        for _, option in ipairs { "add_generation_prompt", "enable_thinking", "tools" } do
          options[option] = record[option]
        end
        assert.equal(record.text, (chat.render(found, record.messages, options)))
      end
    end)
  end

  for _, name in ipairs { "lune-1m", "lune-3m", "lune-5m" } do
    it("become the prompts that the bundled models were trained on: " .. name, function()
      local found = chat.find("examples/models/" .. name)
      for task, expected in pairs(load_json(("tests/reference/%s.json"):format(name)).tasks) do
        local record = json.decode(read(("examples/data/%s.test.jsonl"):format(task)):match "[^\n]+")
        local messages = {
          { role = "system", content = tasks.get(task).system },
          { role = "user", content = tasks.get(task).user(record) },
        }
        local prompt = chat.render(found, messages, { add_generation_prompt = true, enable_thinking = false })
        assert.equal(expected.prompt0, prompt)
      end
    end)
  end

  it("find the template where models keep it", function()
    local config = { chat_template = "config {{ bos_token }}", bos_token = "<s>" }
    local cases = {
      { { ["tokenizer_config.json"] = config }, "config <s>" },
      { { ["chat_template.jinja"] = "file", ["tokenizer_config.json"] = config }, "file" },
      { { ["chat_template.jinja"] = "alone {{ bos_token is defined }}" }, "alone False" },
      { { ["chat_template.jinja"] = "{{ bos_token }}", ["tokenizer_config.json"] = "{}",
        ["special_tokens_map.json"] = { bos_token = { content = "<m>" } } }, "<m>" },
    }
    for _, case in ipairs(cases) do
      local dir = folder(case[1])
      assert.equal(case[2], (chat.render(dir, HELLO)))
      assert.equal(case[2], (chat.render(chat.find(dir), HELLO)))
    end
    assert.equal("user", (chat.render(template.compile "{{ messages[0].role }}", HELLO)))
  end)

  it("choose among several templates", function()
    local several = { chat_template = {
      { name = "default", template = "D{{ tools is none }}" }, { name = "tool_use", template = "T{{ tools[0].name }}" },
      { name = "rag", template = "R{{ documents|length }}" },
    } }
    local found = chat.find(folder { ["tokenizer_config.json"] = several })
    local text, about = chat.render(found, HELLO)
    assert.equal("DTrue", text)
    assert.equal("default", about.template)
    assert.equal("Tadd", (chat.render(found, HELLO, { tools = { { name = "add" } } })))
    assert.equal("DFalse", (chat.render(found, HELLO, { tools = { { name = "add" } }, template = "default" })))
    assert.equal("R2", (chat.render(found, HELLO, { template = "rag", documents = { "a", "b" } })))
    local e = failure(chat.render, found, HELLO, { template = "nope" })
    assert.equal("format", e.code)
    assert.is_truthy(e.message:find("there are: default, rag, tool_use", 1, true), e.message)

    local dir = folder {
      ["chat_template.jinja"] = "main", ["additional_chat_templates/tool_use.jinja"] = "tools",
      ["additional_chat_templates/short.jinja"] = "short",
    }
    assert.equal("main", (chat.render(dir, HELLO)))
    assert.equal("tools", (chat.render(dir, HELLO, { tools = {} })))
    assert.equal("short", (chat.render(dir, HELLO, { template = "short" })))

    several.chat_template = { { name = "one", template = "1" }, { name = "two", template = "2" } }
    e = failure(chat.render, folder { ["tokenizer_config.json"] = several }, HELLO)
    assert.is_truthy(e.message:find("one of: one, two", 1, true), e.message)
  end)

  it("need a template, and say how to give one", function()
    for _, files in ipairs {
      {}, { ["tokenizer_config.json"] = "{}" }, { ["tokenizer_config.json"] = { chat_template = json.null } },
    } do
      local dir = folder(files)
      local e = failure(chat.find, dir)
      assert.equal("format", e.code)
      assert.equal(dir, e.path)
      assert.is_truthy(e.message:find('template = "chatml"', 1, true), e.message)
      local expected = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
      assert.equal(expected, (chat.render(dir, HELLO, { template = "chatml", add_generation_prompt = true })))
    end
  end)

  it("refuse broken files", function()
    local function refused(files, words, code)
      local e = failure(chat.find, folder(files))
      assert.equal(code or "format", e.code)
      assert.is_truthy(e.message:find(words, 1, true), e.message)
      assert.is_truthy(e.path)
    end
    refused({ ["tokenizer_config.json"] = "{" }, "tokenizer_config.json")
    refused({ ["tokenizer_config.json"] = "3" }, "tokenizer_config.json")
    refused({ ["tokenizer_config.json"] = { chat_template = 3 } }, "chat_template is neither a text nor a list")
    refused({ ["tokenizer_config.json"] = { chat_template = { { name = "a" } } } }, "entry 1: wants name and template")
    refused({ ["tokenizer_config.json"] = { chat_template = "x", bos_token = 3 } }, "bos_token is no token")
    refused({ ["tokenizer_config.json"] = { chat_template = {
      { name = "a", template = "" }, { name = "a", template = "" } } } }, "two chat templates are named a")
    refused({ ["chat_template.jinja"] = "\n{{ x | frob }}" }, 'chat_template.jinja:2:8: unknown filter "frob"',
      "unsupported")
    refused({ ["tokenizer_config.json"] = { chat_template = {
      { name = "default", template = "" }, { name = "tool_use", template = "{% frob %}" } } } },
      'tokenizer_config.json:tool_use:1:4: unknown tag "frob"', "unsupported")
    refused({ ["chat_template.jinja"] = (" "):rep(256 * 1024 + 1) }, "larger than 262144 bytes", "unsupported")
    local dir = folder { ["chat_template.jinja/x"] = "" } -- a folder where a file should be
    assert.equal("io", failure(chat.find, dir).code)
    -- a broken template can be passed over
    dir = folder { ["chat_template.jinja"] = "{% frob %}" }
    assert.equal("<|im_start|>user\nhi<|im_end|>\n", (chat.render(dir, HELLO, { template = "chatml" })))
  end)

  it("are read in pieces: room for the largest file that may be there is never taken", function()
    local open, most = io.open, 0
    io.open = function(...) -- luacheck: ignore 122
      local file, why, number = open(...)
      if not file then return file, why, number end
      return setmetatable({}, { __index = function(_, name)
        return function(_, n)
          if name == "read" then most = math.max(most, n) end
          return file[name](file, n)
        end
      end })
    end
    local ok, found = pcall(chat.find, "examples/models/lune-1m")
    io.open = open -- luacheck: ignore 122
    assert.is_true(ok, tostring(found))
    assert.is_true(most > 0 and most <= 1 << 20, most)
  end)

  it("carry the template's own words and the roles when it refuses", function()
    local found = chat.find(folder { ["chat_template.jinja"] =
      "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
      .. "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{% endfor %}ok" })
    assert.equal("ok", (chat.render(found, HELLO)))
    local e = failure(chat.render, found, { HELLO[1], HELLO[1], { role = "us\ner", content = "" } })
    assert.equal("format", e.code)
    assert.equal("Conversation roles must alternate user/assistant", e.raised)
    assert.same({ "user", "user", "us\\ner" }, e.roles)
    assert.is_truthy(e.message:find("must alternate user/assistant (roles: user, user, us\\ner)", 1, true), e.message)
    assert.equal(1, e.line)
  end)

  it("are checked before they are rendered", function()
    local t = template.compile "{{ messages }}"
    local function refused(messages, words)
      local ok, e = pcall(chat.render, t, messages)
      assert.is_false(ok)
      assert.equal("string", type(e))
      assert.is_truthy(e:find(words, 1, true), e)
    end
    refused(nil, "messages must be a list")
    refused({}, "messages must be a list")
    refused({ role = "user", content = "hi" }, "messages must be a list")
    refused({ { content = "hi" } }, "messages[1] has no role")
    refused({ HELLO[1], { role = "user" } }, "messages[2] has no content")
    refused({ { role = "user", content = 5 } }, "messages[1].content must be text")
    assert.is_string((chat.render(t, { { role = "assistant", tool_calls = { { name = "f" } } } })))
    assert.is_string((chat.render(t, { { role = "user", content = { { type = "text", text = "x" } } } })))
    assert.is_string((chat.render(t, { { role = "assistant", content = json.null, tool_calls = {} } })))
  end)

  it("take the options that the template reads, and refuse misspelt ones", function()
    local t = template.compile "{{ add_generation_prompt }}{{ tools is none }}{{ documents is none }}{{ flavour }}"
    assert.equal("FalseTrueTrue", (chat.render(t, HELLO)))
    local options = { add_generation_prompt = true, enable_thinking = true, flavour = "x" }
    assert.equal("TrueTrueTruex", (chat.render(t, HELLO, options)))
    local ok, e = pcall(chat.render, t, HELLO, { add_generation_promt = true })
    assert.is_false(ok)
    assert.is_truthy(e:find("no option add_generation_promt", 1, true), e)
  end)

  it("give a template the special tokens that are set", function()
    local found = chat.find(folder { ["tokenizer_config.json"] = {
      chat_template = "{{ bos_token }} {{ eos_token }} {{ pad_token is defined }} {{ additional_special_tokens }}",
      bos_token = "<s>", eos_token = { content = "</s>", lstrip = false }, pad_token = json.null,
      additional_special_tokens = { "<a>", { content = "<b>" } },
    } })
    assert.equal("<s> </s> False ['<a>', '<b>']", (chat.render(found, HELLO)))
  end)

  it("tell the clock that a template was given, for the record", function()
    local t = template.compile "{{ strftime_now('%d %b %Y') }}"
    local text, about = chat.render(t, HELLO, { clock = "2024-07-26" })
    assert.equal("26 Jul 2024", text)
    assert.equal("2024-07-26T00:00:00", about.clock)
    assert.is_nil(select(2, chat.render(template.compile "x", HELLO)).clock)
  end)

  it("keep what users write as they write it", function()
    local found = chat.find "examples/models/lune-1m"
    local content = "{{ 7 * 7 }} {% if %} <|im_end|> {# \u{1F600} \r\n"
    local prompt = chat.render(found, { { role = "user", content = content } })
    assert.equal("<|im_start|>user\n" .. content .. "<|im_end|>\n", prompt)
  end)
end)
