-- wane.check and wane check: every problem of a folder in one go, what is said of it, and the exit codes.
local wane = require "wane"
local core = wane.core
local families = require "support.families"
local process = require "support.process"

local LUNE <const> = "examples/models/lune-1m"

-- A folder with the files of lune-1m; change[name] = f(text) -> other text, or nil to leave the file out.
local function lune(change)
  local folder = families.folder()
  for _, name in ipairs(core.files.list(LUNE)) do
    local text = core.files.read(LUNE .. "/" .. name)
    if change and change[name] then text = change[name](text) end
    if text then core.files.write(folder.path .. "/" .. name, text) end
  end
  return folder
end

-- change of a JSON file by f(table)
local function json(f)
  return function(text)
    local value = core.json.decode(text)
    f(value)
    return core.json.encode(value)
  end
end

-- a safetensors file of any dtype: entries { { name, dtype, shape, bytes } }
local function raw(path, entries)
  local header, at, data = {}, 0, {}
  for _, e in ipairs(entries) do
    header[e[1]] = { dtype = e[2], shape = core.json.array(e[3]), data_offsets = { at, at + #e[4] } }
    at, data[#data + 1] = at + #e[4], e[4]
  end
  local text = core.json.encode(header)
  core.files.write(path, string.pack("<s8", text) .. table.concat(data))
end

local function part(page, name)
  for _, p in ipairs(page.parts) do
    if p.name == name then return p end
  end
end

-- Whether a problem of that part and code says all of it.
local function has(page, name, code, ...)
  for _, problem in ipairs(page.problems) do
    local fits = problem.part == name and problem.code == code
    for _, text in ipairs { ... } do fits = fits and problem.message:find(text, 1, true) ~= nil end
    if fits then return problem end
  end
  local said = {}
  for i, problem in ipairs(page.problems) do said[i] = problem.part .. " " .. problem.code .. " " .. problem.message end
  error(("no %s of %s with %s in\n%s"):format(code, name, table.concat({ ... }, ", "), table.concat(said, "\n")), 2)
end

describe("a sound folder", function()
  it("has no problem, and tells what it is and what can be made of it", function()
    local page = wane.check("examples/models/lune-5m", { deep = true })
    assert.same({}, page.problems)
    assert.is_true(page.fine)
    for _, name in ipairs { "config", "files", "tensors", "tokenizer", "template", "generation", "numbers" } do
      assert.equal("ok", part(page, name).state, name)
    end
    assert.equal("skipped", part(page, "hashes").state)
    assert.equal("qwen3", page.model.family)
    assert.equal(5181440, page.model.parameters)
    assert.is_true(page.quantize.possible)
    assert.same({ 32, 64, 128 }, { table.unpack(page.quantize.group_sizes, 1, 3) })
    local by_name = {}
    for _, format in ipairs(page.quantize.formats) do by_name[format.name] = format end
    for _, format in ipairs(core.save.formats()) do assert.is_true(by_name[format.name].can, format.name) end
    assert.equal("4 bits; symmetric, whole zero points", by_name.awq.text)
    assert.is_truthy(by_name["compressed-tensors"].text:find "w8a8$")
    assert.same({ "w4 g32 symmetric", "w4 g32 whole zero points" }, { table.unpack(by_name.awq.grids, 1, 2) })
    assert.is_truthy(page.template.text:find("Why does the moon wane?", 1, true))
  end)

  for _, name in ipairs(families.names()) do
    it("may be of " .. name .. ", without a tokenizer", function()
      local dir <close> = families.make(name)
      local page = wane.check(dir.path, { deep = true })
      assert.same({}, page.problems)
      assert.equal("absent", part(page, "tokenizer").state)
      assert.is_true(page.quantize.possible)
      assert.same({}, { table.unpack(page.quantize.group_sizes) }) -- 48 columns
      for _, format in ipairs(page.quantize.formats) do
        if format.name == "gptq" then -- what cannot be says why, and what can
          assert.is_false(format.can)
          assert.is_truthy(format.why:find("format compressed-tensors holds", 1, true), format.why)
        end
      end
      assert.equal(name:find "^llama" and "llama" or name:find "^smollm2" and "llama" or name:match "^%w+", page.model.family)
    end)
  end

  it("is not read but for its headers, unless asked", function()
    local dir <close> = families.make("llama3.f32", { tensors = function(all)
      all["model.norm.weight"] = all["model.norm.weight"] / 0
    end })
    assert.is_true(wane.check(dir.path).fine)
    assert.is_false(wane.check(dir.path, { deep = true }).fine)
  end)
end)

describe("all that is wrong is told at once:", function()
  it("fields of the config, the tokenizer, the template, the generation config", function()
    local dir <close> = lune {
      ["config.json"] = json(function(c)
        c.hidden_size, c.rms_norm_eps, c.hidden_act = -1, "small", "gelu"
        c.rope_parameters = { rope_type = "dynamic", factor = 4.0 }
      end),
      ["generation_config.json"] = function() return '{"eos_token_id": "<end>"}' end,
      ["tokenizer.json"] = function(text) return text:sub(1, #text // 2) end,
      ["chat_template.jinja"] = function() return "{% for m in messages %}{{ m.content | shout }}{% endfor %}" end,
    }
    local page = wane.check(dir.path)
    has(page, "config", "format", "hidden_size is -1")
    has(page, "config", "format", "rms_norm_eps is \"small\"")
    has(page, "config", "unsupported", "hidden_act is \"gelu\"")
    has(page, "config", "unsupported", "rope_type is \"dynamic\"", "default, linear, llama3, yarn")
    has(page, "generation", "format", "eos_token_id")
    has(page, "tokenizer", "format", "tokenizer.json")
    has(page, "template", "unsupported", "shout")
    assert.equal(7, #page.problems)
    assert.equal("ok", part(page, "files").state)
    assert.equal("skipped", part(page, "tensors").state)
    assert.is_false(page.quantize.possible)
  end)

  it("shapes, missing tensors, unexpected ones", function()
    local dir <close> = families.make("qwen2.bf16", { tensors = function(all)
      all["model.layers.0.mlp.up_proj.weight"] = wane.tensor.zeros({ 48, 30 }, { dtype = "bf16" })
      all["model.layers.1.self_attn.v_proj.bias"] = wane.tensor.zeros({ 8 }, { dtype = "bf16" })
      all["model.norm.weight"] = nil
      all["model.layers.1.extra.weight"] = wane.tensor.zeros { 4 }
    end })
    local page = wane.check(dir.path)
    local problem = has(page, "tensors", "format", "up_proj.weight is BF16 (48, 30), expected (48, 32)")
    assert.equal("model.layers.0.mlp.up_proj.weight", problem.tensor)
    has(page, "tensors", "format", "v_proj.bias is BF16 (8), expected (16)")
    has(page, "tensors", "format", "1 tensors are missing: model.norm.weight", "unexpected: model.layers.1.extra.weight")
    assert.equal(3, #page.problems)
    assert.equal("3 problems", part(page, "tensors").text)
  end)

  it("shards that are missing, broken, or hold what the index puts elsewhere", function()
    local dir <close> = lune { ["model.safetensors"] = function() end }
    wane.tensor.save(dir.path .. "/a.safetensors", { x = wane.tensor.zeros { 2 } })
    core.files.write(dir.path .. "/b.safetensors", "version https://git-lfs.github.com/spec/v1\n")
    core.files.write(dir.path .. "/c.safetensors", "short")
    local index = dir.path .. "/model.safetensors.index.json"
    core.files.write(index, core.json.encode { weight_map = { x = "a.safetensors", y = "b.safetensors",
      z = "c.safetensors", u = "d.safetensors" } })
    local page = wane.check(dir.path)
    has(page, "files", "format", "1 of 4 files are missing: d.safetensors")
    has(page, "files", "format", "b.safetensors", "git")
    has(page, "files", "format", "c.safetensors")
    assert.equal(3, #page.problems)
    wane.tensor.save(dir.path .. "/b.safetensors", { y = wane.tensor.zeros { 2 } })
    core.files.write(index, core.json.encode { weight_map = { x = "b.safetensors", y = "a.safetensors" } })
    page = wane.check(dir.path)
    has(page, "files", "format", "tensor x is in b.safetensors, but it is in a.safetensors")
    has(page, "files", "format", "tensor y is in a.safetensors, but it is in b.safetensors")
    core.files.write(index, "{")
    has(wane.check(dir.path), "files", "format", "not JSON")
  end)

  it("every tensor with NaN or Inf", function()
    local bad = { "model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight" }
    local dir <close> = families.make("smollm2.f16", { tensors = function(all)
      for i, name in ipairs(bad) do
        local numbers = all[name]:numbers()
        numbers[2][i] = i == 1 and 0 / 0 or math.huge
        all[name] = wane.tensor.from(numbers, { dtype = "f16" })
      end
    end })
    local page = wane.check(dir.path, { deep = true })
    for _, name in ipairs(bad) do assert.equal(name, has(page, "numbers", "numeric", name, "1 values").tensor) end
    assert.equal(2, #page.problems)
    assert.is_false(page.quantize.possible)
  end)
end)

describe("a family that the tables lack", function()
  it("is refused with what they lack", function()
    local dir <close> = families.make("llama3.f32", {
      config = function(c) c.model_type, c.architectures = "phi3", core.json.array { "Phi3ForCausalLM" } end,
      tensors = function(all)
        for i = 0, 1 do
          local at = ("model.layers.%d."):format(i)
          for _, name in ipairs { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj" } do
            all[at .. name .. ".weight"] = nil
          end
          all[at .. "self_attn.qkv_proj.weight"] = wane.tensor.zeros { 96, 32 }
          all[at .. "mlp.experts.7.up_proj.weight"] = wane.tensor.zeros { 4 }
        end
      end,
    })
    local page = wane.check(dir.path)
    has(page, "config", "unsupported", 'model_type "phi3" is not in wane\'s table of families, which has qwen3, qwen2',
      "its weights have what no table of families has: mlp.experts.N.up_proj.weight, self_attn.qkv_proj.weight",
      "they lack what the tables have: self_attn.q_proj.weight, self_attn.k_proj.weight, self_attn.v_proj.weight")
    assert.equal(1, #page.problems)
    local err = select(2, wane.try("unsupported", wane.load, dir.path))
    assert.is_truthy(err.message:find("self_attn.qkv_proj.weight", 1, true), err.message)
  end)

  it("is named alone where the weights fit", function()
    local dir <close> = families.make("llama3.f32", { config = function(c)
      c.model_type, c.architectures = "smollm3", core.json.array { "SmolLM3ForCausalLM" }
    end })
    local problem = has(wane.check(dir.path), "config", "unsupported", '"smollm3" is not in')
    assert.is_nil(problem.message:find("its weights", 1, true))
  end)
end)

describe("a source that wane does not quantize", function()
  it("may be float8", function()
    local dir <close> = families.make "qwen3.bf16"
    local entries = {}
    for _, w in ipairs(wane.tensor.entries(dir.path .. "/model.safetensors")) do
      local count = 1
      for _, n in ipairs(w.shape) do count = count * n end
      local is8 = w.name:find "_proj.weight$"
      entries[#entries + 1] = { w.name, is8 and "F8_E4M3" or "BF16", w.shape, ("\0"):rep(is8 and count or 2 * count) }
    end
    raw(dir.path .. "/model.safetensors", entries)
    local page = wane.check(dir.path)
    has(page, "tensors", "unsupported", "q_proj.weight is F8_E4M3 (64, 32)", "float8", "use the base model", "wane get")
    assert.equal(14, #page.problems)
    assert.is_false(page.quantize.possible)
    local function refused(...)
      local err = select(2, wane.try("unsupported", wane.load, dir.path))
      for _, text in ipairs { ... } do assert.is_truthy(err.message:find(text, 1, true), err.message) end
    end
    refused("float8", "use the base model")
    -- and by formats that say so
    local function say(quantization)
      local config = core.json.load(dir.path .. "/config.json")
      config.quantization_config = quantization
      core.files.write(dir.path .. "/config.json", core.json.encode(config))
    end
    say { quant_method = "fp8", weight_block_size = { 128, 128 } }
    refused("fp8", "F8_E4M3", "use the base model")
    say { quant_method = "compressed-tensors", format = "float-quantized", ignore = { "lm_head" }, config_groups = {
      group_0 = { targets = { "Linear" }, weights = { num_bits = 8, type = "float", strategy = "tensor" } } } }
    refused("float8", "use the base model")
    has(wane.check(dir.path), "tensors", "unsupported", "F8_E4M3", "float8", "use the base model")
  end)

  it("may be in float64", function()
    local dir <close> = families.make "smollm2.f32"
    local entries = {}
    for _, w in ipairs(wane.tensor.entries(dir.path .. "/model.safetensors")) do
      local count = 1
      for _, n in ipairs(w.shape) do count = count * n end
      entries[#entries + 1] = { w.name, "F64", w.shape, ("\0"):rep(8 * count) }
    end
    raw(dir.path .. "/model.safetensors", entries)
    has(wane.check(dir.path), "tensors", "unsupported", "is F64", "store it in one of these")
  end)

  it("may be quantized by others", function()
    local dir <close> = families.make("qwen3.f16", { config = function(c)
      c.quantization_config = { quant_method = "bitsandbytes", load_in_4bit = true }
    end })
    has(wane.check(dir.path), "tensors", "unsupported", "bitsandbytes", "use the base model")
  end)

  it("may be wane's own, and is then held against its format", function()
    local dir <close> = families.folder()
    local model <close> = wane.load(LUNE)
    local small <close> = wane.quantize(model, wane.rtn { bits = 4, group_size = 64 }, nil, { prove = false })
    local out = dir.path .. "/small"
    small:save(out, { format = "compressed-tensors" })
    local page = wane.check(out, { deep = true })
    assert.same({}, page.problems)
    assert.equal("compressed-tensors", page.model.format)
    assert.is_false(page.quantize.possible)
    assert.is_truthy(page.quantize.why:find("wane convert " .. out .. " DIR --format dense", 1, true))
    assert.equal("dense", page.quantize.convert[#page.quantize.convert])
    assert.equal("compressed-tensors", page.quantize.convert[1])
    local report = core.files.read(out .. "/wane.json")
    core.files.write(out .. "/wane.json", '{"method":{}}')
    local damaged = wane.check(out)
    has(damaged, "quantize", "format", "is not a report of wane's: method must be text")
    assert.same({ false, 1, "bad" }, { damaged.fine, #damaged.problems, part(damaged, "quantize").state })
    core.files.write(out .. "/wane.json", report)
    local packed <close> = wane.load(out)
    local err = select(2, wane.try("unsupported", wane.quantize, packed, wane.rtn {}))
    assert.is_truthy(err.message:find("wane convert " .. out .. " DIR --format dense", 1, true), err.message)
    local all = {}
    for _, entry in ipairs(wane.tensor.entries(out .. "/model.safetensors")) do
      all[entry.name] = wane.tensor.load(out .. "/model.safetensors", entry.name)
    end
    for i = 0, 1 do
      all[("model.layers.%d.mlp.up_proj.weight_scale"):format(i)] = wane.tensor.zeros({ 3, 1 }, { dtype = "bf16" })
    end
    all["model.norm.weight"] = nil
    wane.tensor.save(out .. "/model.safetensors", all)
    page = wane.check(out)
    has(page, "tensors", "format", "layers.0.mlp.up_proj.weight_scale")
    has(page, "tensors", "format", "layers.1.mlp.up_proj.weight_scale")
    has(page, "tensors", "format", "missing: model.norm.weight")
    assert.equal(3, #page.problems)
  end)
end)

describe("a quantized folder", function()
  local WORDS <const> = { awq = "qweight", gptq = "qweight", ["gptq-v2"] = "qweight", hqq = "W_q" }

  for format, words in pairs(WORDS) do
    it("in format " .. format .. " is sound, and shows every matrix that is not", function()
      local dir <close> = families.folder()
      local model <close> = wane.load(LUNE)
      local small <close> = wane.quantize(model, wane.rtn { bits = 4, group_size = 64, symmetric = true }, nil,
        { prove = false })
      local out = dir.path .. "/small"
      small:save(out, { format = format, round_scales = true })
      local page = wane.check(out, { deep = true })
      assert.same({}, page.problems)
      assert.is_truthy(page.quantize.convert[2])
      local all, count = {}, 0
      for _, entry in ipairs(wane.tensor.entries(out .. "/model.safetensors")) do
        all[entry.name] = wane.tensor.load(out .. "/model.safetensors", entry.name)
        if entry.name:find("down_proj." .. words, 1, true) then
          all[entry.name] = wane.tensor.zeros({ 5, 3 }, { dtype = all[entry.name].dtype })
          count = count + 1
        end
      end
      wane.tensor.save(out .. "/model.safetensors", all)
      page = wane.check(out)
      assert.equal(4, count)
      assert.equal(4, #page.problems)
      has(page, "tensors", "format", "layers.3.mlp.down_proj." .. words)
      assert.is_false(page.quantize.possible)
    end)
  end
end)

describe("the tokenizer", function()
  it("may have ids that the embedding has no rows for", function()
    local dir <close> = lune { ["tokenizer.json"] = json(function(t)
      t.added_tokens[#t.added_tokens + 1] = { id = 1024, content = "<|far|>", special = true, single_word = false,
                                              lstrip = false, rstrip = false, normalized = false }
    end) }
    local page = wane.check(dir.path)
    has(page, "tokenizer", "format", "highest id is 1024", "1024 rows, for ids up to 1023")
  end)

  it("may not give back what it was given", function()
    local dir <close> = lune { ["tokenizer.json"] = json(function(t)
      t.normalizer = { type = "Lowercase" }
    end) }
    local page = wane.check(dir.path)
    assert.is_true(#page.problems > 0)
    assert.equal("tokenizer", page.problems[1].part)
  end)

  it("may be absent, or of a kind that wane does not read", function()
    local dir <close> = lune { ["tokenizer.json"] = function() end }
    local page = wane.check(dir.path)
    assert.is_true(page.fine)
    assert.is_truthy(page.warnings[1]:find("no tokenizer.json", 1, true))
    core.files.write(dir.path .. "/tokenizer.model", "x")
    assert.is_truthy(wane.check(dir.path).warnings[1]:find("tokenizer.model alone", 1, true))
  end)
end)

describe("whatever is in the files,", function()
  local FILES <const> = { "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                          "chat_template.jinja", "model.safetensors" }

  -- a text with some of its bytes changed, or cut, or with a piece twice
  local function damaged(text, random)
    local at = random(#text)
    local how = random(4)
    if how == 1 then return text:sub(1, at - 1) end
    if how == 2 then return text:sub(1, at) .. text:sub(at - math.min(at, random(60)) + 1) end
    if how == 3 then return text:sub(1, at - 1) .. text:sub(at + random(20)) end
    return text:sub(1, at - 1) .. string.char(random(0, 255)) .. text:sub(at + 1)
  end

  it("a page comes back, and what wane can load has no fault that it would trip over", function()
    local state = 1
    local function random(low, high)
      if not high then low, high = 1, low end
      state = (state * 1103515245 + 12345) % 2147483648
      return low + (state >> 8) % (high - low + 1)
    end
    local found = 0
    for i = 1, 90 do
      local name = FILES[i % #FILES + 1]
      local dir <close> = lune { [name] = function(text)
        -- of the weights the header, which is what is parsed
        if name ~= "model.safetensors" then return damaged(text, random) end
        local length = string.unpack("<I8", text) + 8
        return damaged(text:sub(1, length), random) .. text:sub(length + 1)
      end }
      local page = wane.check(dir.path)
      local ok, model = pcall(wane.load, dir.path)
      local broken = 0
      for _, problem in ipairs(page.problems) do
        assert.is_truthy(problem.part and problem.code and #problem.message > 10)
        assert.is_nil(problem.message:find "[%c]", problem.message)
        if problem.part ~= "tokenizer" and problem.part ~= "template" then broken = broken + 1 end
      end
      assert.equal(ok, broken == 0, ok and page.problems[1] and page.problems[1].message or tostring(model))
      if ok then model:close() end
      found = found + (page.fine and 0 or 1)
      assert.is_truthy(core.json.decode(core.json.encode(page)).parts[1])
    end
    assert.is_true(found > 45, found .. " of 90")
  end)

  it("and whatever they are called", function()
    local dir <close> = families.folder()
    local path = dir.path .. "/a\nb\xff"
    assert(require "lfs".mkdir(path))
    for _, name in ipairs(core.files.list(LUNE)) do
      core.files.write(path .. "/" .. name, core.files.read(LUNE .. "/" .. name))
    end
    core.files.write(path .. "/x\27[31m.bin", "")
    local r = process.run_wane { "check", path }
    assert.equal(0, r.code, r.err)
    assert.is_nil(r.out:find("[\27\xff]"), r.out)
    r = process.run_wane { "check", path, "--json", "--verify" }
    assert.equal(0, r.code, r.err)
    assert.is_true(core.json.decode(r.out).fine)
  end)
end)

describe("the chat template", function()
  it("may be absent, leave the question out, or refuse it", function()
    local function only(text)
      return lune { ["chat_template.jinja"] = function() return text end,
                    ["tokenizer_config.json"] = json(function(t) t.chat_template = nil end) }
    end
    local none <close> = only(nil)
    local page = wane.check(none.path)
    assert.is_true(page.fine)
    assert.equal("absent", part(page, "template").state)
    local silent <close> = only "{% for m in messages %}{{ m.role }}{% endfor %}"
    has(wane.check(silent.path), "template", "format", "leaves out")
    local stern <close> = only "{{ raise_exception('only systems speak') }}"
    has(wane.check(stern.path), "template", "format", "only systems speak")
    local broken <close> = only "{% for m in %}"
    has(wane.check(broken.path), "template", "format", "chat_template.jinja")
  end)
end)

describe("what does no harm, and may surprise,", function()
  local function noted(page, text)
    for _, warning in ipairs(page.warnings) do
      if warning:find(text, 1, true) then return true end
    end
    error(("no %q among: %s"):format(text, table.concat(page.warnings, "; ")), 2)
  end

  it("is noted: tokens that are none, and an end that does not end", function()
    local dir <close> = lune {
      ["tokenizer_config.json"] = json(function(t) t.eos_token, t.bos_token = "<|none|>", "a" end),
      ["config.json"] = json(function(c) c.pad_token_id = 1023 end),
      ["chat_template.jinja"] = function(text) return "<|begin_of_all|>" .. text end,
    }
    local page = wane.check(dir.path)
    assert.is_true(page.fine)
    noted(page, "eos_token <|none|> of tokenizer_config.json is no token of tokenizer.json")
    noted(page, "the chat template writes <|begin_of_all|>, which is no token of tokenizer.json")
    local other <close> = lune { ["tokenizer_config.json"] = json(function(t) t.eos_token = "a" end) }
    noted(wane.check(other.path), "eos_token a of tokenizer_config.json does not end answers: these end at 1021")
  end)

  it("is noted: code, and weights that are Python objects", function()
    local dir <close> = lune { ["config.json"] = json(function(c) c.auto_map = { AutoModel = "x.Y" } end) }
    core.files.write(dir.path .. "/modeling_x.py", "raise SystemExit")
    core.files.write(dir.path .. "/pytorch_model.bin", "\x80\x02")
    local page = wane.check(dir.path)
    assert.is_true(page.fine)
    noted(page, "auto_map")
    noted(page, "modeling_x.py: code, which wane never runs")
    noted(page, "pytorch_model.bin: Python objects, which wane never reads")
  end)
end)

describe("hashes", function()
  local function sums(dir)
    local lines = {}
    for _, name in ipairs(core.files.list(dir)) do
      lines[#lines + 1] = core.files.sha256_file(dir .. "/" .. name) .. "  " .. name
    end
    return lines
  end

  it("are compared with SHA256SUMS", function()
    local dir <close> = lune()
    local lines = sums(dir.path)
    core.files.write(dir.path .. "/SHA256SUMS", table.concat(lines, "\n") .. "\n")
    local page = wane.check(dir.path, { verify = true })
    assert.same({}, page.problems)
    assert.equal(#lines, page.hashes.compared)
    assert.equal("SHA256SUMS", page.hashes.source)
    -- a bit that nothing else would notice
    local path = dir.path .. "/model.safetensors"
    local bytes = core.files.read(path)
    core.files.write(path, bytes:sub(1, -2) .. string.char(bytes:byte(-1) ~ 1))
    lines[#lines + 1] = ("0"):rep(64) .. " *gone.safetensors"
    lines[#lines + 1] = "what is this"
    core.files.write(dir.path .. "/SHA256SUMS", table.concat(lines, "\n"))
    core.files.write(dir.path .. "/README.md", "new")
    page = wane.check(dir.path, { verify = true, deep = true })
    has(page, "hashes", "format", "model.safetensors: its hash is", "was recorded of model.safetensors")
    has(page, "hashes", "format", "gone.safetensors", "not in the folder")
    has(page, "hashes", "format", ("SHA256SUMS:%d: not a line"):format(#lines))
    assert.equal(3, #page.problems)
    assert.same({ "README.md" }, { table.unpack(page.hashes.unknown) })
  end)

  it("are compared with the names of the Hub's cache, SHA-256 and git's", function()
    local cache <close> = families.folder()
    local commit = ("0123"):rep(10)
    local snapshot = cache.path .. "/models--a--b/snapshots/" .. commit
    local blobs, refs = cache.path .. "/models--a--b/blobs", cache.path .. "/models--a--b/refs"
    core.files.mkdir(snapshot)
    core.files.mkdir(blobs)
    for _, name in ipairs(core.files.list(LUNE)) do
      local path = LUNE .. "/" .. name
      local large = name:find "safetensors$"
      local hash = large and core.files.sha256_file(path) or core.check.git_hash(path)
      core.files.write(blobs .. "/" .. hash, core.files.read(path))
      assert(require "lfs".link("../../blobs/" .. hash, snapshot .. "/" .. name, true))
    end
    local page = wane.check(snapshot, { verify = true })
    assert.same({}, page.problems)
    assert.equal("the Hub's cache", page.hashes.source)
    assert.equal(#core.files.list(LUNE), page.hashes.compared)
    core.files.mkdir(refs) -- and by its id, as the cache has it
    core.files.write(refs .. "/main", commit)
    local r = process.run_wane({ "check", "a/b", "--verify", "--json" }, "",
      "env HF_HUB_CACHE=" .. process.quote(cache.path))
    assert.equal(0, r.code, r.err)
    assert.equal(snapshot, core.json.decode(r.out).dir)
    r = process.run_wane({ "check", "a/none" }, "", "env HF_HUB_CACHE=" .. process.quote(cache.path))
    assert.equal(6, r.code)
    assert.is_truthy(r.out:find("the Hub's cache has no whole model of that id; it is fetched with: wane get a/none", 1, true), r.out)
    local blob = blobs .. "/" .. core.check.git_hash(LUNE .. "/generation_config.json")
    core.files.write(blob, core.files.read(blob) .. "\n")
    page = wane.check(snapshot, { verify = true })
    has(page, "hashes", "format", "generation_config.json: its hash is")
    assert.equal(1, #page.problems)
  end)

  it("are compared with what the Hub's client keeps beside a folder", function()
    local dir <close> = lune()
    local kept = dir.path .. "/.cache/huggingface/download"
    core.files.mkdir(kept)
    local hash = core.files.sha256_file(dir.path .. "/model.safetensors")
    core.files.write(kept .. "/model.safetensors.metadata", ("0"):rep(40) .. "\n" .. hash .. "\n1700000000.0\n")
    core.files.write(kept .. "/config.json.metadata", ("0"):rep(40) .. "\n" .. ("a"):rep(40) .. "\n1700000000.0\n")
    local page = wane.check(dir.path, { verify = true })
    has(page, "hashes", "format", "config.json: its hash is", ("a"):rep(40))
    assert.equal(1, #page.problems)
    assert.equal(1, page.hashes.compared)
  end)

  it("are said to be unknown where nothing is recorded", function()
    local page = wane.check(LUNE, { verify = true })
    assert.is_true(page.fine)
    assert.is_truthy(part(page, "hashes").text:find("nothing to verify against", 1, true))
  end)

  it("are git's own", function()
    local dir <close> = families.folder()
    local path = dir.path .. "/x"
    local all = {}
    local function hash(text)
      core.files.write(path, text)
      return core.check.git_hash(path)
    end
    assert.equal("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", hash "")
    assert.equal("ce013625030ba8dba906f756967f9e9ca394464a", hash "hello\n")
    assert.equal("b8f7d03633530d2c3d2874e2b8dd05ddcf7567bf", hash(("abc"):rep(1000000)))
    for n = 0, 199 do all[n + 1] = hash(("a"):rep(n)) .. "\n" end -- every way to fill a block; by Python's hashlib
    assert.equal("8e6b993a624b16b22059388461d39729e27bf653b09a8ff9dce55269c846812d",
      core.files.sha256(table.concat(all)))
    local ok, err = pcall(core.check.git_hash, dir.path .. "/none")
    assert.is_false(ok)
    assert.equal("io", err.code)
  end)
end)

describe("wane check", function()
  local function run(arguments) return process.run(process.wane .. " check " .. arguments) end

  it("prints a page, and ends with 0", function()
    local r = run(LUNE .. " --deep")
    assert.equal(0, r.code, r.err)
    assert.is_truthy(r.out:find("tokenizer   ok       1024 tokens", 1, true), r.out)
    assert.is_truthy(r.out:find("quantize    yes", 1, true), r.out)
  end)

  it("gives JSON", function()
    local r = run(LUNE .. " --json")
    local page = core.json.decode(r.out)
    assert.is_true(page.fine)
    assert.equal("config", page.parts[1].name)
    assert.same({}, page.problems)
    assert.is_truthy(r.out:find('"problems": []', 1, true))
  end)

  it("ends with the code of the first problem", function()
    assert.equal(6, run("/nonexistent/model").code)
    local dir <close> = lune { ["config.json"] = function() return "{}" end }
    local r = run(dir.path)
    assert.equal(3, r.code)
    assert.is_truthy(r.out:find("problem: ", 1, true), r.out)
    local nan <close> = families.make("llama3.f32", { tensors = function(all)
      all["model.norm.weight"] = all["model.norm.weight"] / 0
    end })
    assert.equal(5, run(nan.path .. " --deep").code)
    assert.equal(2, run("").code)
    assert.equal(2, run(LUNE .. " --deeep").code)
  end)
end)

describe("wane.check", function()
  it("refuses what is no folder's name, and options that it has not", function()
    assert.error_matches(function() wane.check(7) end, "wane.check takes a folder, not a number")
    assert.error_matches(function() wane.check(LUNE, { verfy = true }) end, "did you mean verify?")
  end)

  it("tells of a config that is no JSON, or not there, as such", function()
    local bad <close> = lune { ["config.json"] = function() return '{"a":' end }
    local page = wane.check(bad.path)
    assert.same({ "config", "bad", "files", "ok" }, { page.parts[1].name, page.parts[1].state, page.parts[2].name,
                                                      page.parts[2].state })
    core.files.remove(bad.path .. "/config.json")
    page = wane.check(bad.path)
    assert.equal("bad", page.parts[1].state)
    assert.is_truthy(page.problems[1].message:find("there is no config.json, so it is no model's folder", 1, true))
    assert.equal("examples/models/lune-1m", wane.check("examples/model/lune-1m").problems[1].message:match "mean (.*)%?$")
  end)

  it("tells of a folder that is not there", function()
    local page = wane.check "/nonexistent/model"
    assert.equal("io", page.problems[1].code)
    assert.equal(1, #page.problems)
    assert.is_false(page.fine)
  end)
end)
