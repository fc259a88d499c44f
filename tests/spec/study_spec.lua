-- Studies on the small models with few questions: the order of work, what is kept, what is done again, what is deleted.
local wane = require "wane"
local process = require "support.process"
local study = require "wane.study"
local core = wane.core

local dir = process.folder()
teardown(function()
  core.device.open("auto")
  os.execute("rm -r " .. process.quote(dir))
end)

local MODEL = "examples/models/lune-1m"
local calibration = wane.calibration { file = "examples/data/calibration.jsonl", samples = 8, tokens = 64, force = true }
local run_number = 0

-- A study into a new folder, or the one of `o.out`; its run, and what it said.
local function run(o)
  local said = {}
  run_number = run_number + 1
  local given = { models = { MODEL }, plans = { wane.rtn { bits = 4 } }, tasks = { "arc", "openmath" }, trunc_eval = 2,
                  out = ("%s/run%d"):format(dir, run_number), say = function(line) said[#said + 1] = line end }
  for name, value in pairs(o or {}) do given[name] = value end
  local done = wane.study(given)
  return done, said, given.out
end

local function cell(done, name)
  for _, c in ipairs(done.cells) do
    if c.name == name then return c end
  end
end

local function statuses(done)
  local list = {}
  for i, c in ipairs(done.cells) do list[i] = c.method .. " " .. (c.skipped and "skipped" or c.status) end
  return list
end

-- Runs f with fields of wane replaced.
local function with(fields, f)
  local before = {}
  for name, value in pairs(fields) do before[name], wane[name] = wane[name], value end
  local ok, err = pcall(f)
  for name in pairs(fields) do wane[name] = before[name] end
  if not ok then error(err, 0) end
end

local function raise(code)
  return wane.fail { code = code, message = "made up: " .. code }
end

describe("folders of a study", function()
  it("are named as users know them", function()
    assert.equal("lune-1m", study.folder("examples/models/lune-1m/"))
    assert.equal("lune-1m-base_gptq_w4g64", study.folder(MODEL, wane.gptq { bits = 4, group_size = 64 }))
    assert.equal("lune-1m-base_awq_w3g128", study.folder(MODEL, wane.awq { bits = 3, group_size = 128 }))
    assert.equal("lune-1m-base_hqq_w4grow", study.folder(MODEL, wane.hqq { group_size = -1 }))
    assert.equal("lune-1m-base_smoothquant_w8a8", study.folder(MODEL, wane.smoothquant { bits = 8 }))
  end)
end)

describe("a study", function()
  local done, said, out, status
  lazy_setup(function()
    done, said, out = run { plans = { wane.rtn { bits = 4 }, wane.gptq { bits = 4 } }, calibration = calibration }
    status = wane.json.load(out .. "/status.json")
  end)

  it("asks the model as it is, then each quantized one, and compares", function()
    assert.same({ "none ok", "rtn ok", "gptq ok" }, statuses(done))
    local c = cell(done, "lune-1m-base_gptq_w4g64")
    assert.equal(4, c.n)
    assert.is_number(c.delta)
    assert.equal(c.delta, (c.gained - c.lost) / c.n)
    assert.equal("gptq w4 g64 sym", c.quantization.label)
    assert.is_true(c.quantize_peak_bytes > 0 and c.divergence >= 0 and c.perplexity > 1)
    assert.same({ 3, 3 }, { #done.results, #done.cells })
  end)

  it("measures sizes from the files", function()
    local c = cell(done, "lune-1m-base_rtn_w4g64")
    assert.equal(core.files.size(out .. "/models/lune-1m-base_rtn_w4g64/model.safetensors"), c.bytes)
    assert.is_true(c.bits_per_weight > 4 and c.bits_per_weight < 8)
    assert.is_true(math.abs(cell(done, "lune-1m").bits_per_weight - 16) < 0.1)
  end)

  it("writes what came of it, every cell with the same keys", function()
    assert.equal(3, #status.cells)
    for _, c in ipairs(status.cells) do
      for _, key in ipairs { "model", "method", "status", "n", "accuracy", "format_compliance", "bytes",
                             "bits_per_weight", "seconds", "error" } do
        assert.is_not_nil(c[key], key)
      end
      assert.equal(wane.json.null, c.error)
    end
    assert.same({ "lune-1m", "none", "ok" }, { status.cells[1].model, status.cells[1].method, status.cells[1].status })
    assert.equal(done.markdown, core.files.read(out .. "/status.md"))
    assert.is_truthy(core.files.read(out .. "/report.html"):find("<svg", 1, true))
    assert.equal(4, #wane.records.read(out .. "/samples/lune-1m.jsonl"))
  end)

  it("says what it does", function()
    assert.equal("lune-1m: baseline", said[1])
    assert.is_truthy(said[2]:find("^lune%-1m: %d of 4 right, "))
    assert.equal("lune-1m-base_rtn_w4g64: rtn { bits = 4, group_size = 64 }", said[3])
    assert.equal(6, #said)
  end)

  it("run again runs nothing again", function()
    local again
    with({ load = function() error("a model was opened") end }, function()
      again, said = run { plans = { wane.rtn { bits = 4 }, wane.gptq { bits = 4 } }, calibration = calibration, out = out }
    end)
    assert.same({ "lune-1m: finished before (ok)", "lune-1m-base_rtn_w4g64: finished before (ok)",
                  "lune-1m-base_gptq_w4g64: finished before (ok)" }, said)
    for i, c in ipairs(done.cells) do
      local d = again.cells[i]
      assert.same({ c.n, c.correct, c.bytes, c.seconds, c.delta, c.p }, { d.n, d.correct, d.bytes, d.seconds, d.delta, d.p })
    end
    local after = wane.json.load(out .. "/status.json")
    status.time, after.time = nil, nil
    assert.same(core.json.encode(status), core.json.encode(after))
  end)

  it("with more questions asks only these, and makes no model again", function()
    local made = core.files.sha256_file(out .. "/models/lune-1m-base_gptq_w4g64/wane.json")
    with({ quantize = function() error("a model was quantized") end }, function()
      done = run { plans = { wane.rtn { bits = 4 }, wane.gptq { bits = 4 } }, calibration = calibration, out = out,
                   trunc_eval = 3 }
    end)
    assert.same({ "none ok", "rtn ok", "gptq ok" }, statuses(done))
    assert.same({ 6, 6 }, { done.cells[1].n, done.cells[3].n })
    assert.equal(4, done.results[1].reused)
    assert.equal(made, core.files.sha256_file(out .. "/models/lune-1m-base_gptq_w4g64/wane.json"))
  end)

  it("with other settings of a method makes that model again, and only that", function()
    local quantized = {}
    local quantize = wane.quantize
    with({ quantize = function(model, plan, ...)
      quantized[#quantized + 1] = tostring(plan)
      return quantize(model, plan, ...)
    end }, function()
      done = run { plans = { wane.rtn { bits = 4 }, wane.gptq { bits = 4, damp = 0.05 } }, calibration = calibration,
                   out = out }
    end)
    assert.same({ "gptq { bits = 4, group_size = 64, damp = 0.05 }" }, quantized)
    assert.same({ "none ok", "rtn ok", "gptq ok" }, statuses(done))
  end)

  it("asks again where the answers of a finished cell are damaged", function()
    local path = out .. "/samples/lune-1m.jsonl"
    core.files.write(path, (core.files.read(path):gsub('"correct":%w+', '"correct":tru', 1)))
    done, said = run { plans = {}, out = out }
    assert.equal("lune-1m: baseline", said[1])
    assert.equal(3, done.results[1].reused)
  end)

  it("asks again where a cell's file is damaged", function()
    core.files.write(out .. "/cells/lune-1m.json", '{"key":')
    done, said = run { plans = {}, out = out }
    assert.equal("lune-1m: baseline", said[1])
    assert.equal("ok", done.cells[1].status)
  end)
end)

describe("a model that does not fit", function()
  local LARGE = "examples/models/lune-3m"
  local done, said, out
  lazy_setup(function()
    wane.device { name = "cpu", memory = "5500KiB" }
    done, said, out = run { models = { LARGE, MODEL }, plans = { wane.rtn { bits = 4 }, wane.hqq { bits = 4 } } }
  end)

  it("gives way to the next smaller one", function()
    assert.same({ "none oom", "rtn skipped", "hqq skipped", "none ok", "rtn ok", "hqq ok" }, statuses(done))
    local c = done.cells[1]
    assert.is_true(c.requested > c.free)
    assert.is_truthy(c.error:find("out of memory", 1, true))
    assert.equal("not tried: lune-3m did not fit", done.cells[2].error)
    assert.equal("not met", done.criteria[7].state)
    assert.equal("out of memory: lune-3m", done.criteria[7].numbers)
  end)

  it("leaves everything within the budget", function()
    for i = 4, 6 do
      assert.is_true(done.cells[i].peak_bytes <= wane.bytes "5500KiB")
      assert.is_true((done.cells[i].quantize_peak_bytes or 0) <= wane.bytes "5500KiB")
    end
  end)

  it("has null for what it has not in status.json", function()
    local first = wane.json.load(out .. "/status.json").cells[1]
    for _, key in ipairs { "n", "accuracy", "format_compliance", "bytes", "bits_per_weight" } do
      assert.equal(wane.json.null, first[key])
    end
    assert.is_string(first.error)
  end)

  it("is not tried again under the same budget, and is under another", function()
    done, said = run { models = { LARGE, MODEL }, plans = {}, out = out }
    assert.equal("lune-3m: finished before (oom)", said[1])
    wane.device { name = "cpu", memory = "12MiB" }
    done, said = run { models = { LARGE, MODEL }, plans = {}, out = out }
    assert.equal("lune-3m: baseline", said[1])
    assert.same({ "none ok", "none ok" }, statuses(done))
    core.device.open("auto")
  end)

  it("while quantizing, ends that model too", function()
    with({ quantize = function() raise "oom" end }, function()
      done = run { plans = { wane.rtn { bits = 4 }, wane.hqq { bits = 4 } } }
    end)
    assert.same({ "none ok", "rtn oom", "hqq skipped" }, statuses(done))
    assert.equal("not tried: lune-1m-base_rtn_w4g64 did not fit", done.cells[3].error)
  end)
end)

describe("a method that fails", function()
  local quantize = wane.quantize
  local function failing(how)
    return function(model, plan, ...)
      if plan.method == "hqq" then how() end
      return quantize(model, plan, ...)
    end
  end
  local plans = { wane.hqq { bits = 4 }, wane.rtn { bits = 4 } }

  it("leaves the next one its turn, and says what it was", function()
    local done, said, out
    with({ quantize = failing(function() raise "numeric" end) }, function() done, said, out = run { plans = plans } end)
    assert.is_truthy(said[4]:find("^lune%-1m%-base_hqq_w4g64: error: made up: numeric, "), said[4])
    assert.same({ "none ok", "hqq error", "rtn ok" }, statuses(done))
    assert.same({ "numeric", "made up: numeric" }, { done.cells[2].code, done.cells[2].error })
    assert.equal("met", done.criteria[2].state)
    assert.equal("rtn", done.criteria[2].numbers)
    assert.is_truthy(core.files.read(out .. "/status.md"):find("lune-1m-base_hqq_w4g64: made up: numeric", 1, true))
    -- an error is always tried again
    local again = run { plans = plans, out = out }
    assert.same({ "none ok", "hqq ok", "rtn ok" }, statuses(again))
  end)

  it("by a bug is told with where it was", function()
    local done
    with({ quantize = failing(function() error("a bug") end) }, function() done = run { plans = plans } end)
    assert.equal("error", done.cells[2].status)
    assert.is_truthy(done.cells[2].error:find("study_spec.lua:%d+: a bug"))
    assert.is_truthy(done.cells[2].traceback:find("stack traceback", 1, true))
  end)

  for delete, left in pairs { [true] = { "lune-1m-base_rtn_w4g64" }, [false] = { "lune-1m-base_hqq_w4g64", "lune-1m-base_rtn_w4g64" } } do
    it(("after it was saved %s its output where delete_failed is %s"):format(delete and "loses" or "keeps", tostring(delete)),
      function()
        local load = wane.load
        local out = ("%s/delete-%s"):format(dir, delete)
        local done
        with({ load = function(path)
          if path:find("models/lune%-1m%-base_hqq") then raise "io" end
          return load(path)
        end }, function() done = run { plans = plans, delete_failed = delete, out = out } end)
        assert.same({ "none ok", "hqq error", "rtn ok" }, statuses(done))
        assert.same(left, core.files.list(out .. "/models"))
      end)
  end

  it("in the baseline lets every method have its say", function()
    local broken = dir .. "/broken"
    os.execute(("cp -r %s %s && truncate -s 1000000 %s/model.safetensors"):format(MODEL, broken, broken))
    local done = run { models = { broken, MODEL }, plans = { wane.rtn { bits = 4 } } }
    assert.same({ "none error", "rtn error", "none ok", "rtn ok" }, statuses(done))
    assert.equal("format", done.cells[1].code)
    assert.is_truthy(done.cells[1].error:find("broken/model.safetensors", 1, true))
  end)
end)

describe("an interrupted study", function()
  it("keeps its finished cells and goes on", function()
    local plans, out = { wane.rtn { bits = 4 }, wane.hqq { bits = 4 } }, dir .. "/interrupted"
    local quantize = wane.quantize
    local ok, err
    with({ quantize = function(model, plan, ...)
      if plan.method == "hqq" then raise "interrupted" end
      return quantize(model, plan, ...)
    end }, function() ok, err = pcall(run, { plans = plans, out = out }) end)
    assert.is_false(ok)
    assert.equal("interrupted", err.code)
    assert.same({ "lune-1m-base_rtn_w4g64.json", "lune-1m.json" }, core.files.list(out .. "/cells"))
    assert.is_nil(core.files.kind(out .. "/status.json"))
    local done, said = run { plans = plans, out = out }
    assert.same({ "none ok", "rtn ok", "hqq ok" }, statuses(done))
    assert.same({ "lune-1m: finished before (ok)", "lune-1m-base_rtn_w4g64: finished before (ok)" }, { said[1], said[2] })
  end)

  it("clears away what a killed one left half written", function()
    local out = dir .. "/killed"
    core.files.mkdir(out .. "/models/lune-1m-base_rtn_w4g64.partial-12345")
    core.files.write(out .. "/models/lune-1m-base_rtn_w4g64.partial-12345/model.safetensors", "half")
    core.files.mkdir(out .. "/cells")
    core.files.write(out .. "/cells/lune-1m.json.partial-9-0", "{")
    local done = run { out = out }
    assert.same({ "none ok", "rtn ok" }, statuses(done))
    assert.same({ "lune-1m-base_rtn_w4g64" }, core.files.list(out .. "/models"))
    assert.equal(2, #core.files.list(out .. "/cells"))
  end)
end)

describe("a study touches nothing of others'", function()
  it("and says so where something else lies in its place", function()
    local out = dir .. "/occupied"
    core.files.mkdir(out .. "/models/lune-1m-base_rtn_w4g64")
    core.files.write(out .. "/models/lune-1m-base_rtn_w4g64/thesis.txt", "years of work")
    local done = run { out = out, delete_failed = false }
    assert.same({ "none ok", "rtn error" }, statuses(done))
    assert.is_truthy(done.cells[2].error:find("was not made by this study", 1, true))
    assert.equal("years of work", core.files.read(out .. "/models/lune-1m-base_rtn_w4g64/thesis.txt"))
  end)

  it("and two do not run in one folder", function()
    local out = dir .. "/locked"
    core.files.mkdir(out)
    local lock <close> = core.files.lock(out) -- luacheck: ignore 211
    local ok, err = pcall(run, { out = out })
    assert.is_false(ok)
    assert.equal("io", err.code)
  end)
end)

describe("a study is refused", function()
  for message, o in pairs {
    ["needs models"] = { models = {} },
    ["two cells are called lune-1m"] = { models = { MODEL, "other/lune-1m/" } },
    ["two cells are called lune-1m-base_gptq_w4g64"] = { plans = { wane.gptq { damp = 0.1 }, wane.gptq { damp = 0.2 } },
                                                         calibration = calibration },
    ["gptq needs a calibration"] = { plans = { wane.gptq {} } },
    ["plan 1 is none"] = { plans = { "gptq" } },
    ["did you mean trunc_eval?"] = { trunc_evals = 2 },
    ["there is no task"] = { tasks = { "mmlu" } },
    ["models are folders"] = { models = { 7 } },
  } do
    it("where " .. message, function()
      local given = { models = { MODEL }, plans = {}, out = dir .. "/refused" }
      for name, value in pairs(o) do given[name] = value end
      local ok, err = pcall(function() return (wane.study(given)) end)
      assert.is_false(ok)
      assert.is_truthy(tostring(err):find(message, 1, true), tostring(err))
      assert.is_nil(core.files.kind(dir .. "/refused"))
    end)
  end
  it("where a set is not there, before any work", function()
    local ok, err = pcall(run, { data = dir })
    assert.is_false(ok)
    assert.equal("io", err.code)
  end)
end)

describe("a verdict", function()
  local verdict = require "wane.verdict"
  local function made(method, correct, boxed, n, more)
    local c = { model = "m", method = method, name = "m-" .. method, status = "ok", n = n, correct = correct,
                accuracy = correct / n, format_compliance = boxed / n, seconds = 1.0 }
    for key, value in pairs(more or {}) do c[key] = value end
    return c
  end
  local function states(cells)
    local criteria, conclusion = verdict.judge(cells)
    local list = {}
    for i, c in ipairs(criteria) do list[i] = c.state end
    return list, conclusion, criteria
  end
  local even = { delta = 0.0, delta_interval = { -0.02, 0.02 }, p = 1.0 }

  it("holds shares against their bars by their intervals", function()
    local list, conclusion = states { made("none", 90, 100, 100), made("awq", 90, 100, 100, even) }
    assert.same({ "met", "met", "met", "met", "met", "met", "met" }, list)
    assert.equal("confirmed", conclusion.state)
    assert.is_truthy(conclusion.text:find("n = 100", 1, true))
  end)

  it("cannot tell from two questions", function()
    local wide = { delta = 0.0, delta_interval = { -0.7, 0.7 }, p = 1.0 }
    local list, conclusion = states { made("none", 1, 2, 2), made("awq", 1, 2, 2, wide) }
    assert.same({ "cannot tell", "met", "cannot tell", "cannot tell", "cannot tell", "cannot tell", "met" }, list)
    assert.equal("undecided", conclusion.state)
  end)

  it("does not name the model best that answered least", function()
    local _, _, criteria = states { made("awq", 5, 5, 50, even), made("hqq", 20, 50, 50, even) }
    assert.equal("m-hqq", criteria[1].best)
  end)

  it("is refuted where nothing answers, and where every method fails", function()
    local list, conclusion = states { made("none", 0, 0, 100), made("awq", 0, 0, 100, even) }
    assert.same({ "not met", "met", "not met" }, { list[1], list[2], list[3] })
    assert.equal("refuted", conclusion.state)
    list, conclusion = states { made("none", 90, 90, 100), { model = "m", method = "awq", name = "m-awq", status = "error",
                                                              error = "x", seconds = 0.0 } }
    assert.same({ "not met", "not met", "not met", "not met", "not met", "not met", "met" }, list)
    assert.equal("refuted", conclusion.state)
  end)

  it("on nothing at all says so", function()
    local list, conclusion, criteria = states {}
    assert.equal("not met", list[1])
    assert.equal("no method was tried", criteria[2].numbers)
    assert.equal("refuted", conclusion.state)
  end)

  it("notes a loss beyond the bar of five points", function()
    local list = states { made("awq", 70, 100, 100, { delta = -0.2, delta_interval = { -0.28, -0.11 }, p = 0.001 }) }
    assert.equal("not met", list[4])
  end)
end)
