-- The recipes, each run as the README says, on few questions; and the example that runs the study.
local wane = require "wane"
local process = require "support.process"
local core = wane.core

local dir = process.folder()
teardown(function() os.execute("rm -r " .. process.quote(dir)) end)

local function run(...) return process.run_wane { ... } end

-- A short calibration set keeps the runs short.
local CALIB = dir .. "/calibration.jsonl"
setup(function()
  local text = core.files.read "examples/data/calibration.jsonl"
  local at = 0
  for _ = 1, 64 do at = text:find("\n", at + 1, true) end
  core.files.write(CALIB, text:sub(1, at))
end)

local function refused(done, code, message)
  assert.equal(code, done.code, done.err)
  assert.equal("", done.out)
  assert.is_truthy(done.err:find(message, 1, true), done.err)
end

describe("recipes/fallback.lua", function()
  local out = dir .. "/study"
  local function study(...)
    return run("recipes/fallback.lua", "--models", "examples/models/lune-5m,examples/models/lune-1m", "--memory", "6MiB",
      "--trunc-eval", "2", "--calib", CALIB, "--out", out, ...)
  end

  it("falls back from what does not fit, and tells in three files", function()
    local done = study()
    assert.equal(0, done.code, done.err)
    assert.is_truthy(done.out:find("^# What small weights cost\n"))
    local status = wane.json.load(out .. "/status.json")
    local cells = {}
    for i, c in ipairs(status.cells) do cells[i] = ("%s %s %s"):format(c.model, c.method, c.status) end
    assert.same({ "lune-5m none oom", "lune-5m awq oom", "lune-5m hqq oom", "lune-5m gptq oom", "lune-5m smoothquant oom",
                  "lune-1m none ok", "lune-1m awq ok", "lune-1m hqq ok", "lune-1m gptq ok", "lune-1m smoothquant ok" }, cells)
    assert.same({ "lune-1m-base_awq_w4g64", "lune-1m-base_gptq_w4g64", "lune-1m-base_hqq_w4g64",
                  "lune-1m-base_smoothquant_w4g64" }, core.files.list(out .. "/models"))
    for i = 6, 10 do
      local c = status.cells[i]
      assert.equal(8, c.n)
      assert.is_true(c.peak_bytes <= 6 << 20 and (c.quantize_peak_bytes or 0) <= 6 << 20)
    end
    assert.equal(6 << 20, status.memory)
    assert.equal(done.out, core.files.read(out .. "/status.md") .. "\n")
    assert.equal("file", core.files.kind(out .. "/report.html"))
  end)

  it("run again does nothing again", function()
    local done = study()
    assert.equal(0, done.code, done.err)
    local lines = 0
    for line in done.err:gmatch("[^\n]+") do
      if not line:find("the CPU is used", 1, true) then
        assert.is_truthy(line:find("finished before", 1, true), line)
        lines = lines + 1
      end
    end
    assert.equal(6, lines)
  end)

  it("killed at any moment goes on to the same end, byte by byte", function()
    local other = dir .. "/killed"
    local words = { process.quote(process.wane), "recipes/fallback.lua --models examples/models/lune-1m --trunc-eval 2",
                    "--memory 6MiB --calib", process.quote(CALIB), "--out", process.quote(other) }
    local command = table.concat(words, " ")
    local codes = {}
    for i, signal in ipairs { "KILL", "INT", "KILL" } do
      codes[i] = process.run(("timeout --preserve-status -s %s %.1f %s"):format(signal, 0.5 + 0.6 * i, command)).code
    end
    assert.is_true(codes[1] == 137 or codes[1] == 0, codes[1])
    assert.is_true(codes[2] == 75 or codes[2] == 0, codes[2])
    assert.equal(0, process.run(command).code)
    for _, name in ipairs(core.files.list(out .. "/models")) do
      local file = ("/models/%s/model.safetensors"):format(name)
      assert.equal(core.files.sha256_file(out .. file), core.files.sha256_file(other .. file), name)
    end
    assert.same(core.files.list(out .. "/models"), core.files.list(other .. "/models"))
  end)

  it("refuses what cannot be, with the code for it", function()
    refused(study("--bitz", "4"), 2, "fallback.lua has no flag --bitz; did you mean --bits?")
    refused(study("--bits", "5"), 2, "bits must be one of 2, 3, 4, 8")
    refused(study("--calib", dir .. "/nothing.jsonl"), 6, "nothing.jsonl")
    refused(study("--data", dir), 6, "no arc.test.jsonl")
    refused(study("--memory", "1MiB"), 4, "out of memory")
    refused(study("word"), 2, "words given: 1, needed: 0")
  end)

  it("tells its flags", function()
    local done = run("recipes/fallback.lua", "--help")
    assert.equal(0, done.code)
    for _, flag in ipairs { "--models A,B", "--memory SIZE", "--out TEXT", "--trunc-eval N", "--delete-failed" } do
      assert.is_truthy(done.out:find(flag, 1, true), flag)
    end
  end)
end)

describe("recipes/compare.lua", function()
  it("holds all methods against the model as it is", function()
    local done = run("recipes/compare.lua", "--trunc-eval", "1", "--calib", CALIB, "--out", dir .. "/compare.html")
    assert.equal(0, done.code, done.err)
    for _, label in ipairs { "as it is", "rtn w4 g64", "awq w4 g64", "hqq w4 g64", "gptq w4 g64 sym", "smoothquant w4 g64" } do
      assert.is_truthy(done.out:find("| " .. label, 1, true), label)
    end
    assert.is_truthy(core.files.read(dir .. "/compare.html"):find("</html>", 1, true))
  end)
end)

describe("recipes/sweep.lua", function()
  it("goes through bits, group sizes and methods", function()
    local done = run("recipes/sweep.lua", "--methods", "rtn,smoothquant", "--bits", "8,2", "--group-sizes", "32,-1", "--trunc-eval",
      "1", "--calib", CALIB, "--out", dir .. "/sweep.json")
    assert.equal(0, done.code, done.err)
    local page, names = wane.json.load(dir .. "/sweep.json"), {}
    for i, r in ipairs(page.results) do names[i] = r.model end
    assert.same({ "lune-1m as it is", "lune-1m rtn w8 g32", "lune-1m rtn w8 row", "lune-1m rtn w2 g32", "lune-1m rtn w2 row",
                  "lune-1m smoothquant w8 g32", "lune-1m smoothquant w8 row", "lune-1m smoothquant w2 g32",
                  "lune-1m smoothquant w2 row" }, names)
  end)
  it("refuses a method or a size that there is not before any work", function()
    refused(run("recipes/sweep.lua", "--methods", "rtn,gptk"), 2, 'not "gptk"; did you mean gptq?')
    refused(run("recipes/sweep.lua", "--group-sizes", "48"), 2, "group_sizes must be a list whose item 1 is one of 32, 64, 128, -1")
  end)
end)

describe("recipes/quantize.lua", function()
  it("makes one model small", function()
    local out = dir .. "/small"
    local done = run("recipes/quantize.lua", "examples/models/lune-1m", out, "--method", "hqq", "--bits", "3", "--calib", CALIB)
    assert.equal(0, done.code, done.err)
    assert.is_truthy(done.out:find("hqq w3 g64", 1, true))
    local model <close> = wane.load(out)
    assert.equal("hqq w3 g64", model.quantization.label)
    refused(run("recipes/quantize.lua", "examples/models/lune-1m", out, "--method", "rtn", "--calib", CALIB), 6, "is there already")
  end)
  it("needs two words", function()
    refused(run("recipes/quantize.lua", "examples/models/lune-1m"), 2, "usage: quantize.lua MODEL OUT")
  end)
end)

describe("examples/quickstart.sh", function()
  it("runs the study under a budget that the largest model does not fit", function()
    local text = core.files.read "examples/quickstart.sh"
    assert.is_truthy(text:find("build/wane recipes/fallback.lua --memory 10MiB --out runs/quickstart", 1, true))
    assert.equal(0, process.run("bash -n examples/quickstart.sh").code)
  end)
end)
