-- Saved models: what other programs find in the folder, what wane finds in it again, and that nothing half done is left.
local wane = require "wane"
local packed = require "support.packed"
local process = require "support.process"
local core = wane.core

local dir = process.folder()
teardown(function() os.execute("rm -r " .. process.quote(dir)) end)

local TINY, LUNE = "tests/reference/tiny/", "examples/models/lune-1m"
local LINEARS = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                  "mlp.up_proj", "mlp.down_proj" }
local IDS = { 1, 7, 300, 5, 5, 19 }

local numbered = 0
local function place()
  numbered = numbered + 1
  return ("%s/out%d"):format(dir, numbered)
end

-- The weights of a matrix as the model computes with them, row by row.
local function decoded(model, name)
  return model:tensor(name .. ".weight"):numbers()
end

-- Every weight that the files stand for, against every weight that wane reads from them.
local function same_weights(model, saved, bits, layers)
  local tensors = packed.folder(saved)
  for i = 0, layers - 1 do
    for _, linear in ipairs(LINEARS) do
      local name = ("model.layers.%d.%s"):format(i, linear)
      local mine, theirs = packed.decode(tensors, name, bits), decoded(model, name)
      assert.equal(#mine, #theirs)
      for r, row in ipairs(mine) do
        for c, value in ipairs(row) do
          if value ~= theirs[r][c] then error(("%s (%d, %d): %g is not %g"):format(name, r, c, value, theirs[r][c])) end
        end
      end
    end
  end
end

local function quantize(source, plan, calibration)
  return wane.quantize(source, plan, calibration, { prove = false })
end

describe("a saved model", function()
  for _, row in ipairs {
    { "qwen3", { bits = 2, group_size = 32 } }, { "qwen3", { bits = 3, group_size = 32 } },
    { "qwen3", { bits = 4, group_size = 32 } }, { "qwen3", { bits = 8, group_size = 32 } },
    { "llama3", { bits = 2, group_size = 32, symmetric = true } }, { "llama3", { bits = 3, group_size = -1 } },
    { "llama3", { bits = 4, group_size = -1, symmetric = true } }, { "qwen2", { bits = 4, group_size = 32, symmetric = true } },
    { "qwen2", { bits = 8, group_size = -1 } }, { "qwen2", { bits = 3, group_size = 32, symmetric = true } },
    { "qwen3", { bits = 4, group_size = 32 }, "hqq" }, { "qwen2", { bits = 8 }, "smoothquant" },
  } do
    local family, grid, method = row[1], row[2], row[3] or "rtn"
    local plan = method == "smoothquant" and wane.rtn { bits = 8, group_size = -1, symmetric = true } or wane[method](grid)
    it(("of %s, %s, is the same again, weight by weight"):format(family, plan.label), function()
      local source <close> = wane.load(TINY .. family)
      local small <close> = quantize(source, plan)
      local out = place()
      local told = small:save(out)
      local back <close> = wane.load(out)
      assert.is_true(small:logits(IDS) == back:logits(IDS))
      local q, p = back.quantization, small.quantization
      assert.same({ p.bits, p.group_size, p.symmetric, p.activation_bits, p.label },
        { q.bits, q.group_size, q.symmetric, q.activation_bits, q.label })
      assert.equal(core.files.size(out .. "/model.safetensors"), told.bytes)
      assert.is_true(math.abs(told.bits_per_weight - 8 * told.bytes / source.parameters) < 1e-12)
      same_weights(back, out, plan.bits, 2)
    end)
  end
end)

describe("each method's model", function()
  local USUAL = { ["awq w4 g64"] = "awq", ["gptq w4 g32 sym"] = "gptq" }
  local source, calibration
  lazy_setup(function()
    source = wane.load(LUNE)
    calibration = wane.calibration { file = "examples/data/calibration.jsonl", samples = 8, tokens = 64, force = true }
  end)
  lazy_teardown(function() source:close() end)

  for _, plan in ipairs { wane.rtn { bits = 4 }, wane.hqq { bits = 3 }, wane.awq { bits = 4 }, wane.gptq { bits = 4, group_size = 32 },
                          wane.gptq { bits = 4, group_size = 32, symmetric = false }, wane.gptq { bits = 3 },
                          wane.smoothquant { bits = 4 }, wane.smoothquant { bits = 8 } } do
    it("says the same after saving: " .. plan.label, function()
      local small <close> = quantize(source, plan, calibration)
      local out = place()
      small:save(out)
      local back <close> = wane.load(out)
      assert.is_true(small:logits(IDS) == back:logits(IDS))
      assert.equal(plan.label, back.quantization.label)
      assert.equal(USUAL[plan.label] or "compressed-tensors", back.quantization.format)
      local config = wane.json.load(out .. "/config.json").quantization_config
      assert.equal(USUAL[plan.label] or "compressed-tensors", config.quant_method)
      if config.quant_method == "compressed-tensors" then
        assert.equal(plan.label == "smoothquant w8a8" and "int-quantized" or "pack-quantized", config.format)
      end
      assert.equal(28, #back.quantization.layers)
      assert.equal(small.quantization.error, back.quantization.error)
      same_weights(back, out, plan.bits, 1)
    end)
  end
end)

describe("the folder", function()
  local out, source
  lazy_setup(function()
    -- a source with keys that wane does not know, in an order of their own
    source = dir .. "/source"
    os.execute(("cp -r %s %s"):format(LUNE, source))
    local config = core.files.read(source .. "/config.json"):gsub("{", '{\n  "zebra": {"b": 1, "a": [1.50, 2e-7]},', 1)
    core.files.write(source .. "/config.json", (config:gsub("}%s*$", ',\n  "aardvark": "\\u00e9"\n}\n')))
    core.files.write(source .. "/tokenizer.model", "sentences")
    core.files.write(source .. "/modeling.py", "import os")
    core.files.write(source .. "/LICENSE", "free")
    for _, name in ipairs { "special_tokens_map.json", "added_tokens.json", "vocab.json", "chat_template.json" } do
      core.files.write(source .. "/" .. name, "{}")
    end
    core.files.write(source .. "/merges.txt", "a b")
    core.files.write(source .. "/SHA256SUMS", "of the source")
    local model <close> = wane.load(source)
    local small <close> = quantize(model, wane.rtn { bits = 4 })
    out = place()
    small:save(out)
  end)

  it("has what other programs need, and no code", function()
    assert.same({ "LICENSE", "SHA256SUMS", "added_tokens.json", "chat_template.jinja", "chat_template.json", "config.json",
                  "generation_config.json", "merges.txt", "model.safetensors", "special_tokens_map.json", "tokenizer.json",
                  "tokenizer.model", "tokenizer_config.json", "vocab.json", "wane.json" }, core.files.list(out))
    for _, name in ipairs { "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json", "merges.txt",
                            "generation_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "LICENSE" } do
      assert.equal(core.files.sha256_file(source .. "/" .. name), core.files.sha256_file(out .. "/" .. name))
    end
  end)

  it("has the source's config, letter by letter, and one member more", function()
    local before, after = core.files.read(source .. "/config.json"), core.files.read(out .. "/config.json")
    local kept = before:match("^(.-)%s*}%s*$")
    assert.equal(kept, after:sub(1, #kept))
    local config = core.json.decode(after)
    local q = config.quantization_config
    assert.same({ "compressed-tensors", "pack-quantized", "compressed" }, { q.quant_method, q.format, q.quantization_status })
    local group = q.config_groups.group_0
    assert.same({ 4, "int", false, "group", 64 }, { group.weights.num_bits, group.weights.type, group.weights.symmetric,
                                                    group.weights.strategy, group.weights.group_size })
    assert.equal(core.json.null, group.input_activations)
    assert.same({ "lm_head" }, { table.unpack(q.ignore) })
    local known = { num_bits = 1, type = 1, symmetric = 1, strategy = 1, group_size = 1, dynamic = 1, actorder = 1,
                    block_structure = 1, observer = 1, observer_kwargs = 1 }
    for key in pairs(group.weights) do assert.is_truthy(known[key], key .. " is forbidden by the readers") end
  end)

  it("has weights that Transformers takes: format pt, eight-byte headers, nothing else changed", function()
    local tensors, metadata, _, length = packed.file(out .. "/model.safetensors")
    assert.equal("pt", metadata.format)
    assert.equal(0, length % 8)
    local original = packed.folder(source)
    for name, t in pairs(original) do
      local kept = tensors[name]
      if name:find("_proj%.weight$") then
        assert.is_nil(kept, name)
        assert.is_truthy(tensors[name .. "_packed"])
      else
        assert.same({ t.dtype, t.bytes }, { kept.dtype, kept.bytes }, name)
      end
    end
  end)

  it("has the hashes of all its files, which sha256sum and wane check find again", function()
    local done = process.run(("cd %s && sha256sum -c SHA256SUMS"):format(out))
    assert.equal(0, done.code, done.err)
    assert.equal(#core.files.list(out) - 1, select(2, done.out:gsub(": OK\n", "")))
    local page = wane.check(out, { verify = true })
    assert.same({ #core.files.list(out) - 1, "SHA256SUMS" }, { page.hashes.compared, page.hashes.source })
    assert.same({}, { table.unpack(page.hashes.unknown) })
    -- a bit of a code, which nothing else would notice
    local lie = place()
    os.execute(("cp -r %s %s"):format(out, lie))
    local bytes = core.files.read(lie .. "/model.safetensors")
    local at = #bytes // 2
    core.files.write(lie .. "/model.safetensors",
      bytes:sub(1, at) .. string.char(bytes:byte(at + 1) ~ 1) .. bytes:sub(at + 2))
    assert.is_true(wane.check(lie, { deep = true }).fine)
    page = wane.check(lie, { verify = true })
    assert.is_false(page.fine)
    assert.matches("model.safetensors: its hash is", page.problems[1].message)
  end)

  it("tells how it was made", function()
    local about = wane.json.load(out .. "/wane.json")
    assert.same({ core.version, "rtn { bits = 4, group_size = 64 }", 28 }, { about.wane, about.plan, #about.layers })
  end)

  it("is called what its tensors are, whatever its report says", function()
    local lie = place()
    os.execute(("cp -r %s %s"):format(out, lie))
    local about = wane.json.load(lie .. "/wane.json")
    about.bits, about.label, about.activation_bits, about.group_size, about.symmetric = 8, "gptq w8a8", 8, 128, true
    wane.json.save(lie .. "/wane.json", about)
    local model <close> = wane.load(lie)
    assert.same({ "rtn w4 g64", 4, 64, false, 16 }, { model.quantization.label, model.quantization.bits,
      model.quantization.group_size, model.quantization.symmetric, model.quantization.activation_bits })
    -- without a report too, but for the method, which no tensor tells
    core.files.remove(lie .. "/wane.json")
    local bare <close> = wane.load(lie)
    assert.equal("unknown w4 g64", bare.quantization.label)
  end)

  it("is refused as a source", function()
    local model <close> = wane.load(out)
    local ok, err = pcall(wane.quantize, model, wane.rtn {})
    assert.is_false(ok)
    assert.equal("unsupported", err.code)
    assert.is_truthy(err.message:find(out, 1, true) and err.message:find("quantized already", 1, true))
  end)
end)

describe("the format that a plan is made for", function()
  local source
  lazy_setup(function() source = wane.load(LUNE) end)
  lazy_teardown(function() source:close() end)

  local function scales_of(plan)
    local small <close> = quantize(source, plan)
    local out = place()
    local told = small:save(out)
    local tensors, types = packed.folder(out), {}
    for name, t in pairs(tensors) do
      if name:find("%.scales?$") or name:find("%.weight_scale$") then types[t.dtype] = true end
    end
    assert.is_nil(next(types, next(types)))
    return next(types), told.format
  end

  it("decides the type of its scales, and what it is saved as", function()
    assert.same({ "BF16", "compressed-tensors" }, { scales_of(wane.rtn { bits = 4 }) })
    assert.same({ "F16", "awq" }, { scales_of(wane.rtn { bits = 4, format = "awq" }) })
    assert.same({ "F16", "gptq" }, { scales_of(wane.rtn { bits = 4, symmetric = true, format = "gptq" }) })
    assert.same({ "F16", "gptq-v2" }, { scales_of(wane.hqq { bits = 4, format = "gptq-v2" }) })
    assert.same({ "BF16", "hqq" }, { scales_of(wane.hqq { bits = 4, format = "hqq" }) })
    assert.same({ "BF16", "hqq" }, { scales_of(wane.hqq { bits = 4, zero = "float" }) })
    assert.equal('rtn { bits = 4, group_size = 64, format = "awq" }', tostring(wane.rtn { format = "awq" }))
  end)

  it("is refused before a weight is read where it cannot hold the codes", function()
    for _, row in ipairs {
      { wane.rtn { bits = 3, format = "awq" }, "4%-bit weights" }, { wane.rtn { format = "gptq" }, "symmetric" },
      { wane.hqq { zero = "float", format = "awq" }, "fractions" },
      { wane.rtn { group_size = -1, format = "hqq" }, "not whole rows" },
    } do
      local ok, err = pcall(wane.quantize, source, row[1])
      assert.is_false(ok)
      assert.equal("unsupported", err.code)
      assert.matches(row[2], err.message)
    end
    assert.error_matches(function() wane.rtn { format = "awk" } end, "did you mean awq")
  end)

  it("is another one, and says so, where the model's sizes are not for the usual one", function()
    local tiny <close> = wane.load(TINY .. "llama3")
    local name, scale, warning = wane.formats.choose(tiny, wane.gptq { group_size = 32 }, false)
    assert.same({ "compressed-tensors" }, { name, scale })
    assert.matches("32 divides, not %(16, 64%)", warning)
    assert.same({ "awq", "f16" }, { wane.formats.choose(tiny, wane.awq { group_size = 32 }, false) })
    name, scale, warning = wane.formats.choose(tiny, wane.awq { group_size = 32 }, true)
    assert.same({ "compressed-tensors" }, { name, scale })
    assert.matches("head", warning)
  end)

  it("is none where no format holds the codes, which saving says", function()
    local small <close> = quantize(source, wane.hqq { bits = 3, zero = "float" })
    assert.is_nil(small.quantization.format)
    local ok, err = pcall(small.save, small, place())
    assert.is_false(ok)
    assert.matches("fractions", err.message)
  end)

  it("can be another when saving, where not a weight changes", function()
    local small <close> = quantize(source, wane.rtn { bits = 4, format = "awq" })
    local out = place()
    small:save(out, { format = "compressed-tensors" })
    local back <close> = wane.load(out)
    assert.is_true(small:logits(IDS) == back:logits(IDS))
  end)
end)

describe("shards", function()
  it("are as small as asked for, and an index says where everything is", function()
    local model <close> = wane.load(LUNE)
    local small <close> = quantize(model, wane.rtn { bits = 4 })
    local whole, out = place(), place()
    small:save(whole)
    local told = small:save(out, { shard_bytes = "300KiB" })
    local index = wane.json.load(out .. "/model.safetensors.index.json")
    local names, bytes, total = {}, 0, 0
    for _, name in ipairs(core.files.list(out)) do
      if name:find("%.safetensors$") then
        names[#names + 1] = name
        local _, metadata, size = packed.file(out .. "/" .. name)
        assert.equal("pt", metadata.format)
        assert.is_true(size <= 300 * 1024, name)
        bytes, total = bytes + core.files.size(out .. "/" .. name), total + size
      end
    end
    assert.is_true(#names >= 3)
    assert.equal(("model-00001-of-%05d.safetensors"):format(#names), names[1])
    assert.same({ bytes, total }, { told.bytes, index.metadata.total_size })
    local one, many = packed.folder(whole), packed.folder(out)
    for name, t in pairs(one) do assert.equal(t.bytes, many[name].bytes, name) end
    for name in pairs(many) do assert.is_truthy(one[name], name) end
    local back <close> = wane.load(out)
    assert.is_true(small:logits(IDS) == back:logits(IDS))
  end)
end)

describe("saving", function()
  local model, small
  lazy_setup(function()
    model = wane.load(TINY .. "qwen3")
    small = quantize(model, wane.rtn { bits = 4, group_size = 32 })
  end)
  lazy_teardown(function()
    small:close()
    model:close()
  end)

  local function refused(code, message, f, ...)
    local ok, err = pcall(f, ...)
    assert.is_false(ok)
    assert.equal(code, type(err) == "table" and err.code or type(err))
    assert.is_truthy(tostring(err):find(message, 1, true), tostring(err))
  end

  it("does not write over anything", function()
    local out = place()
    core.files.mkdir(out)
    core.files.write(out .. "/thesis.txt", "years of work")
    refused("io", "is there already", small.save, small, out)
    refused("io", "is there already", wane.quantize, model, wane.rtn { group_size = 32 }, nil, { out = out })
    assert.same({ "thesis.txt" }, core.files.list(out))
  end)

  it("does not write into the model it is made from", function()
    refused("io", "lies in the folder of the model", small.save, small, TINY .. "qwen3/small")
    assert.is_nil(core.files.kind(TINY .. "qwen3/small"))
  end)

  it("is for quantized models, in formats that there are", function()
    refused("string", "saves quantized models", model.save, model, place())
    refused("string", "format must be one of compressed-tensors, awq, gptq, gptq-v2, hqq, dense,", small.save, small, place(),
      { format = "zip" })
    refused("string", "did you mean format?", small.save, small, place(), { formats = "x" })
    refused("string", "shard_bytes must be a size", small.save, small, place(), { shard_bytes = "-1" })
  end)

  it("leaves nothing behind where the disk is full", function()
    local script = ([[
      mkdir -p %s/full && mount -t tmpfs -o size=200k tmpfs %s/full && cd %s/full || exit 99
      WANE_TREE=%s; export WANE_TREE
      timeout 60 %s -e '
        local wane = require "wane"
        local model <close> = wane.load(os.getenv "WANE_TREE" .. "/examples/models/lune-1m")
        local small <close> = wane.quantize(model, wane.rtn { bits = 4 }, nil, { prove = false })
        small:save "out"'
      code=$?; ls; exit $code]]):format(dir, dir, dir, core.system and process.run("pwd").out:gsub("\n", ""), process.wane)
    local done = process.run("unshare -m sh -c " .. process.quote(script))
    if done.code == 99 or done.err:find("unshare") then return pending("needs a mount of its own") end
    assert.equal(6, done.code, done.err)
    assert.equal("", done.out)
    assert.is_truthy(done.err:find("No space left on device", 1, true), done.err)
  end)

  it("leaves nothing behind where a file may not be written", function()
    local out = place()
    core.files.mkdir(out)
    local done = process.run(("cd %s && ulimit -f 20 && trap '' XFSZ && %s -e %s"):format(out, process.wane, process.quote(([[
      local wane = require "wane"
      local model <close> = wane.load %q
      local small <close> = wane.quantize(model, wane.rtn { bits = 8, group_size = 32 }, nil, { prove = false })
      small:save "out"]]):format(process.run("pwd").out:gsub("\n", "") .. "/" .. TINY .. "qwen3"))))
    assert.equal(6, done.code, done.err)
    assert.is_truthy(done.err:find("File too large", 1, true), done.err)
    assert.same({}, core.files.list(out))
  end)

  it("ended by a signal leaves no folder of the name", function()
    local out = place()
    local command = "timeout --preserve-status -s INT 0.9 %s quantize --method gptq --src examples/models/lune-5m "
      .. "--dst %s --calib examples/data/calibration.jsonl"
    local done = process.run(command:format(process.wane, out))
    if done.code == 0 then return pending("was done before the signal") end
    assert.equal(75, done.code, done.err)
    assert.is_nil(core.files.kind(out))
    assert.equal("", process.run(("ls -d %s* 2>/dev/null"):format(out)).out)
  end)
end)
