-- quantize, eval, compare and report as somebody at a terminal meets them: results, refusals, exit codes, and that
-- stdout has data alone.
local wane = require "wane"
local process = require "support.process"
local core = wane.core

local dir = process.folder()
teardown(function() os.execute("rm -r " .. process.quote(dir)) end)

local MODEL, CALIB = "examples/models/lune-1m", "examples/data/calibration.jsonl"

local function run(...) return process.run_wane { ... } end

local function quantize(...) return run("quantize", "--src", MODEL, "--calib", CALIB, ...) end

local function refused(done, code, message)
  assert.equal(code, done.code, done.err)
  assert.equal("", done.out)
  assert.is_truthy(done.err:find(message, 1, true), done.err)
  assert.is_nil(done.err:find("stack traceback", 1, true), done.err)
end

-- what may stand on stderr where no terminal is: nothing, but for the remark that a GPU is not used
local function quiet(done) return (done.err:gsub("wane: the CPU is used[^\n]*\n", "")) end

describe("wane quantize", function()
  local out = dir .. "/lune-1m-base_gptq_w4g64"

  it("does what its users know it to do", function()
    local done = run("quantize", "--method", "gptq", "--src", MODEL, "--dst", out, "--calib", CALIB, "--bits", "4",
      "--group-size", "64", "--keep-lm-head-fp16")
    assert.equal(0, done.code, done.err)
    assert.matches("^[%w:]+: at most [%d.]+ %a+ of [%d.]+ %a+\n$", quiet(done))
    assert.is_truthy(done.out:find("gptq w4 g64 sym", 1, true))
    assert.is_truthy(done.out:find("bits a weight; mean error 0.0", 1, true))
    local model <close> = wane.load(out)
    assert.equal("gptq w4 g64 sym", model.quantization.label)
  end)

  it("goes without a tokenizer where the weights alone decide, and says what was not shown", function()
    local mute = dir .. "/mute"
    assert(os.execute(("cp -r %s %s && rm %s/tokenizer.json"):format(MODEL, mute, mute)))
    local done = run("quantize", "--method", "rtn", "--src", mute, "--dst", mute .. "-rtn")
    assert.equal(0, done.code, done.err)
    assert.is_truthy(done.err:find("no tokenizer.json: the result was asked nothing", 1, true), done.err)
    refused(run("quantize", "--method", "awq", "--src", mute, "--dst", mute .. "-awq", "--calib", CALIB), 6,
      "mute: there is no tokenizer.json, which turns text into ids")
    assert(os.execute(("echo '{' >%s/tokenizer.json"):format(mute)))
    local quick = run("quantize", "--method", "rtn", "--src", mute, "--dst", mute .. "-2")
    refused(quick, 3, "tokenizer.json")
    assert.is_nil(quick.err:find("at most", 1, true)) -- before the work
  end)

  it("gives JSON where it is asked for, and takes a plain text, a prompt a line", function()
    core.files.write(dir .. "/prompts.txt", ("What is the capital of this land, and who was it that came here "
      .. "first?\n\n  Nobody knows who was the first to come here, or which way they took.  \n"):rep(100))
    local done = run("quantize", "--method", "awq", "--src", MODEL, "--dst", dir .. "/text", "--calib", dir .. "/prompts.txt",
      "--json")
    assert.equal(0, done.code, done.err)
    local q = core.json.decode(done.out)
    assert.same({ "awq", 4, 64 }, { q.method, q.bits, q.group_size })
    local lines = "What is the capital of this land, and who was it that came here first?\n"
      .. "Nobody knows who was the first to come here, or which way they took.\n"
    assert.equal(core.files.sha256(lines:rep(100):sub(1, -2)), q.calibration.hash)
  end)

  it("makes W8A8 of smoothquant with eight bits", function()
    local done = quantize("--method", "smoothquant", "--bits", "8", "--dst", dir .. "/w8a8")
    assert.equal(0, done.code, done.err)
    assert.is_truthy(done.out:find("smoothquant w8a8", 1, true))
  end)

  for what, row in pairs {
    ["a method that is misspelt"] = { { "--method", "gptk" }, 2, 'not "gptk"; did you mean gptq?' },
    ["a flag that is misspelt"] = { { "--methd", "gptq" }, 2, "--methd" },
    ["bits that there are not"] = { { "--bits", "5" }, 2, "bits must be one of 2, 3, 4, 8, not \"5\"" },
    ["a group size that there is not"] = { { "--group-size", "48" }, 2, "group_size must be one of" },
    ["a format that there is not"] = { { "--format", "gguf" }, 2, "format must be one of compressed-tensors" },
    ["a plan that cannot be"] = { { "--method", "hqq", "--symmetric" }, 2, "quantize: hqq" },
    ["a source that is not there"] = { { "--src", "./models/nothing" }, 6, "models/nothing: there is no such folder" },
    ["a calibration file that is not there"] = { { "--calib", "nothing.jsonl" }, 6, "nothing.jsonl" },
    ["a source as its destination"] = { { "--dst", MODEL }, 6, MODEL .. " is there already" },
    ["a destination in its source"] = { { "--dst", MODEL .. "/small", "--method", "rtn" }, 6, "lies in the folder of the model" },
    ["too little memory"] = { { "--memory", "2MiB" }, 4, "out of memory" },
    ["memory that is no size"] = { { "--memory", "much" }, 2, "memory must be a size" },
  } do
    it("refuses " .. what, function()
      local flags = { ["--src"] = MODEL, ["--calib"] = CALIB, ["--dst"] = dir .. "/refused" }
      local words = { "quantize" }
      for i = 1, #row[1], 2 do flags[row[1][i]] = row[1][i + 1] or true end
      for flag, value in pairs(flags) do
        words[#words + 1] = flag
        if value ~= true then words[#words + 1] = value end
      end
      refused(process.run_wane(words), row[2], row[3])
      assert.is_nil(core.files.kind(dir .. "/refused"))
      assert.is_nil(core.files.kind(MODEL .. "/small"))
    end)
  end

  it("refuses a destination that is there, before any work", function()
    refused(quantize("--dst", out), 6, "is there already")
  end)
  it("refuses a model that is quantized already, and names it", function()
    refused(run("quantize", "--method", "rtn", "--src", out, "--dst", dir .. "/twice"), 3, "quantized already (gptq w4 g64 sym)")
  end)
  it("says that a method needs text", function()
    refused(run("quantize", "--method", "awq", "--src", MODEL, "--dst", dir .. "/no"), 2, "give it with --calib FILE")
  end)
  it("says what is needed", function()
    refused(run("quantize", "--src", MODEL), 2, "quantize needs --dst")
  end)
  it("names file, line and column of a broken calibration record", function()
    core.files.write(dir .. "/broken.jsonl", '{"text":"a text of some length, for once"}\n{"text":"x",}\n')
    refused(run("quantize", "--method", "awq", "--src", MODEL, "--dst", dir .. "/no", "--calib", dir .. "/broken.jsonl"), 3,
      "broken.jsonl:2:13: not JSON")
  end)
  it("refuses weights that are cut off, and names the file", function()
    os.execute(("cp -r %s %s/cut && truncate -s 1000000 %s/cut/model.safetensors"):format(MODEL, dir, dir))
    refused(run("quantize", "--method", "rtn", "--src", dir .. "/cut", "--dst", dir .. "/no"), 3, "cut/model.safetensors")
  end)
end)

describe("wane eval", function()
  local report, samples = dir .. "/base.json", dir .. "/base.jsonl"

  it("asks the first questions of every set and says how it went", function()
    local done = run("eval", MODEL, "--trunc-eval", "2", "--out", report, "--samples", samples)
    assert.equal(0, done.code, done.err)
    assert.is_truthy(done.out:find("^lune%-1m: %d of 8 right, [%d.]+ %% %([%d.]+ to [%d.]+%); boxed 100.0 %%\n"), done.out)
    assert.equal(5, select(2, done.out:gsub("\n", "")))
    assert.is_truthy(quiet(done):find("^wane: n = 8 is too small to tell"))
    assert.equal(8, #wane.records.read(samples))
  end)

  it("writes the report that its users know", function()
    local page = wane.json.load(report)
    assert.equal("lune-1m", page.model)
    assert.same({ "arc", "boolq", "squad_v2", "openmath" }, { table.unpack(page.summary.data_sets) })
    for _, key in ipairs { "samples", "correct", "accuracy", "latency", "tokens", "quantization", "peak_memory" } do
      assert.is_not_nil(page.summary[key], key)
    end
    for _, key in ipairs { "mean", "median", "p95", "total" } do
      assert.is_number(page.summary.latency[key])
      assert.is_number(page.data_sets.arc.tokens[key])
    end
    assert.is_not_nil(page.data_sets.boolq.mcc)
    assert.is_not_nil(page.data_sets.squad_v2.has_answer.em)
    assert.is_not_nil(page.data_sets.openmath.parsed)
    assert.is_string(page.hardware.device)
    assert.equal("none", page.summary.quantization)
  end)

  it("gives JSON alone where it is asked for", function()
    local done = run("eval", MODEL, "--trunc-eval", "1", "--tasks", "arc,boolq", "--json")
    assert.equal(0, done.code)
    assert.equal(2, core.json.decode(done.out).summary.samples)
  end)

  it("does not ask again what it has answers to", function()
    local done = run("eval", MODEL, "--trunc-eval", "2", "--samples", samples)
    assert.equal(0, done.code)
    assert.is_truthy(done.err:find("8 of 8 answers were in " .. samples .. " already", 1, true))
  end)

  it("evaluates what was quantized", function()
    local done = run("eval", dir .. "/lune-1m-base_gptq_w4g64", "--trunc-eval", "2", "--out", dir .. "/small.json")
    assert.equal(0, done.code, done.err)
    local page = wane.json.load(dir .. "/small.json")
    assert.same({ "gptq w4 g64 sym", "gptq", 4 }, { page.summary.quantization, page.quantization.method, page.quantization.bits })
    assert.equal(28, #page.layers)
  end)

  for what, row in pairs {
    ["a set that is misspelt"] = { { "--tasks", "arc,bolq" }, 2, 'openmath, not "bolq"; did you mean boolq?' },
    ["a number that is none"] = { { "--trunc-eval", "two" }, 2, "trunc_eval must be a whole number" },
    ["a flag that is misspelt"] = { { "--trunc", "2" }, 2, "--trunc" },
    ["a folder without sets"] = { { "--data", "recipes" }, 6, "no arc.test.jsonl or arc.jsonl in recipes" },
    ["too little memory"] = { { "--memory", "3MiB" }, 4, "out of memory" },
    ["sets in a folder that is not there"] = { { "--data", "nothing" }, 6, "there is no folder nothing with question sets" },
    ["a device that is none"] = { { "--device", "gpu" }, 2, 'device must be auto, cpu, cuda or cuda:1, not "gpu"' },
    ["a folder for a report"] = { { "--out", "recipes" }, 6, "cannot write recipes: it is a folder" },
    ["a report that cannot be written"] = { { "--trunc-eval", "1", "--out", "/proc/nothing/x.json" }, 6, "/proc/nothing/x.json" },
  } do
    it("refuses " .. what, function()
      local done = run("eval", MODEL, table.unpack(row[1]))
      refused(done, row[2], row[3])
    end)
  end

  it("refuses a model that is not there, cut off, or no model", function()
    refused(run("eval", "./models/nothing"), 6, "there is no such folder")
    refused(run("eval", dir .. "/cut"), 3, "cut/model.safetensors")
    refused(run("eval", "recipes"), 6, "recipes: there is no config.json")
    refused(run("eval"), 2, "model")
    refused(run("eval", ""), 2, "eval: model is an empty text")
    refused(run("eval", "examples/models/lune-1x"), 6, "no such folder; did you mean examples/models/lune-1m?")
    refused(run("eval", "example/model/lune-1m"), 6, "there is no such folder; did you mean examples/models/lune-1m?")
  end)

  it("says that its files could not be written before it asks anything", function()
    local gone = dir .. "/gone/x.json"
    refused(run("eval", "./models/nothing", "--out", gone), 6, ("there is no folder %s/gone; mkdir -p '%s/gone'"):format(dir, dir))
    refused(run("eval", "./models/nothing", "--samples", gone), 6, "there is no folder")
    refused(run("report", "./nothing.json", "--out", dir .. "/gone/x.html"), 6, "there is no folder")
  end)

  it("names file, line and column of a broken question", function()
    core.files.mkdir(dir .. "/data")
    core.files.write(dir .. "/data/arc.jsonl", '{"question":"q","answer":"A"}\n{"question":"q" "answer":"A"}\n')
    refused(run("eval", MODEL, "--tasks", "arc", "--data", dir .. "/data"), 3, "data/arc.jsonl:2:24: not JSON")
    core.files.write(dir .. "/data/arc.jsonl", '{"question":"q","answer":"A"}\n{"question":"q","answer":"F"}\n')
    refused(run("eval", MODEL, "--tasks", "arc", "--data", dir .. "/data"), 3, "data/arc.jsonl:2:1: answer must be A to D or 1 to 4")
  end)
end)

describe("wane plan", function()
  it("refuses what wane quantize would", function()
    refused(run("plan", MODEL, "--bits", "5"), 2, 'bits must be one of 2, 3, 4, 8, not "5"')
    refused(run("plan", MODEL, "--method", "gtpq"), 2, "did you mean gptq?")
  end)

  it("has nothing to quantize of a model that is", function()
    local done = run("plan", dir .. "/lune-1m-base_gptq_w4g64")
    assert.equal(0, done.code, done.err)
    assert.is_nil(done.out:find("quantizing by", 1, true))
    assert.is_truthy(done.out:find("evaluating the model as it is", 1, true))
  end)
end)

describe("wane compare", function()
  local function made(name, right)
    local page = wane.json.load(dir .. "/base.json")
    page.model = name
    page.samples = core.json.array {}
    for i = 1, 40 do
      page.samples[i] = { task = "arc", id = "q" .. i, line = i, correct = i <= right, gold = "A", extracted = "A" }
    end
    wane.json.save(("%s/%s.json"):format(dir, name), page)
    return ("%s/%s.json"):format(dir, name)
  end

  it("tells the difference with its interval, and what changed sides", function()
    local done = run("compare", dir .. "/base.json", dir .. "/small.json")
    assert.equal(0, done.code, done.err)
    assert.is_truthy(done.out:find("^lune%-1m%-base_gptq_w4g64 against lune%-1m: .* points %(95 %%%), p = [%d.]+, n = 8; "))
    done = run("compare", made("full", 40), made("half", 20))
    assert.is_truthy(done.out:find("20 lost, 0 gained: worse", 1, true))
    assert.equal(21, select(2, done.out:gsub("\n", "")))
    assert.is_truthy(done.out:find("\n  arc:21  right A  was A  now A\n", 1, true))
  end)

  it("gives JSON where it is asked for", function()
    local c = core.json.decode(run("compare", made("full", 40), made("half", 20), "--json").out)
    assert.same({ "half", "full", 40, -0.5, "worse" }, { c.name, c.baseline, c.n, c.delta, c.verdict })
  end)

  it("ends with 8 where more is lost than the gate lets through, beyond chance", function()
    local full, half = made("full", 40), made("half", 20)
    assert.equal(8, run("compare", full, half, "--gate", "5").code)
    assert.equal(0, run("compare", full, half, "--gate", "70").code)
    assert.equal(0, run("compare", full, made("near", 39), "--gate", "1").code) -- one flip could be chance
  end)

  it("refuses what is no report", function()
    refused(run("compare", dir .. "/base.json", MODEL .. "/config.json"), 3, "config.json is no report of wane eval")
    refused(run("compare", dir .. "/base.json", dir .. "/base.jsonl"), 3, "base.jsonl")
    refused(run("compare", dir .. "/base.json", dir .. "/nothing.json"), 6, "nothing.json")
    refused(run("compare", dir .. "/base.json"), 2, "result")
    refused(run("compare", dir .. "/base.json", made("full", 40)), 3, "have no question in common")
  end)
end)

describe("wane report", function()
  it("prints Markdown, or writes a page", function()
    local done = run("report", dir .. "/base.json", dir .. "/small.json", "--title", "Two of them")
    assert.equal(0, done.code, done.err)
    assert.is_truthy(done.out:find("^# Two of them\n"))
    assert.is_truthy(done.out:find("| lune-1m-base_gptq_w4g64 | gptq w4 g64 sym ", 1, true))
    done = run("report", dir .. "/base.json", dir .. "/small.json", "--out", dir .. "/page.html")
    assert.same({ 0, "" }, { done.code, done.out })
    assert.is_truthy(core.files.read(dir .. "/page.html"):find("Error of each matrix", 1, true))
  end)
  it("refuses other endings and what is no report", function()
    refused(run("report", dir .. "/base.json", "--out", dir .. "/page.pdf"), 2, "must end in .html, .md or .json")
    refused(run("report", CALIB), 3, "calibration.jsonl")
    refused(run("report"), 2, "results")
  end)
end)

describe("commands", function()
  it("take folders of any name, and show them as text", function()
    local odd = dir .. "/a \n'\xff"
    assert(os.execute(("cp -r %s %s"):format(MODEL, process.quote(odd))))
    local done = run("eval", odd, "--trunc-eval", "1", "--json")
    assert.equal(0, done.code, done.err)
    assert.equal("a \\x0a'\\xff", core.json.decode(done.out).model)
    done = run("quantize", "--method", "rtn", "--src", odd, "--dst", odd)
    refused(done, 6, "/a \\x0a'\\xff is there already")
    done = run("quantize", "--method", "rtn", "--src", odd, "--dst", odd .. "2")
    assert.equal(0, done.code, done.err)
    assert.equal("directory", core.files.kind(odd .. "2"))
  end)

  it("end quietly where nobody reads on", function()
    local done = process.run(("%s eval %s --trunc-eval 1 --json | head -c 1; exit ${PIPESTATUS[0]}"):format(
      process.wane, MODEL):gsub("^", "set -o pipefail; "))
    assert.is_nil(done.err:find("traceback", 1, true), done.err)
  end)
end)
