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
