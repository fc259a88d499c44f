-- What only a machine with a GPU can show: each of the device's allocations failing under whole runs, a kernel that
-- faults, another program that holds the memory, GPUs that are hidden, and the same bytes twice. tests/gpu.sh runs it
-- with WANE_DEVICE=cuda.
local wane = require "wane"
local core = wane.core
local process = require "support.process"

local q = process.quote
local real = (core.device.info().description or ""):find "NVIDIA" ~= nil -- else it is the stand-in, build/far/wane
local TINY = { family = "qwen3", hidden = 128, layers = 1, heads = 2, kv_heads = 1, head_dim = 64, mlp = 256,
               vocabulary = 1200 }
local MIB <const> = 1 << 20

local folder, tiny
setup(function()
  folder = process.folder()
  tiny = folder .. "/tiny"
  wane.synth(TINY, tiny, { tokenizer = "examples/models/lune-1m" })
end)
teardown(function()
  core.device.open "auto"
  os.execute("rm -r " .. q(folder))
end)

local function remove(dir) os.execute("rm -r " .. q(dir)) end

local function texts(count, tokens)
  local list = {}
  for i = 1, count do
    local words = wane.tensor.random({ 2 * tokens }, { seed = i, device = "host" }):numbers()
    for k, x in ipairs(words) do words[k] = ("%d"):format(x * 1e6 // 1 | 0) end
    list[i] = table.concat(words, " ")
  end
  return wane.calibration { texts = list, samples = count, tokens = tokens, force = true }
end

describe("every allocation on the device", function()
  local set = texts(4, 64)
  local made = function() return folder .. "/made" end

  -- f fails with "oom" at each of its allocations in turn, leaves nothing, and works in the end
  local function sweep(least, f)
    f()
    collectgarbage()
    local before, n, done = core.device.live(), 0, false
    while not done do
      local asked = core.device.info().allocations
      core.device.fail_after(n, false, 2) -- twice: the second try after collecting garbage fails too
      local ok, err = pcall(f)
      core.device.fail_after(nil)
      asked = core.device.info().allocations - asked
      if not ok then assert.equal("oom", type(err) == "table" and err.code, tostring(err)) end
      err = nil -- luacheck: ignore 311
      collectgarbage()
      assert.equal(before, (core.device.live()))
      n, done = n + 1, ok and asked <= n -- none failed
    end
    assert.is_true(n >= least, ("only %d allocations"):format(n))
  end

  for _, method in ipairs { "gptq", "awq", "smoothquant" } do
    it("of quantizing by " .. method, function()
      sweep(30, function()
        local model <close> = wane.load(tiny)
        local small <close> = wane.quantize(model, wane[method] { bits = method ~= "smoothquant" and 4 or nil }, set,
          { prove = false })
        assert.is_true(small.quantization.error > 0)
      end)
    end)
  end

  it("of loading, answering, scoring and measuring", function()
    do
      local model <close> = wane.load(tiny)
      wane.quantize(model, wane.rtn(), nil, { out = made(), prove = false }):close()
    end
    sweep(20, function()
      local model <close> = wane.load(made())
      assert.equal(2, #model:generate({ { 1, 2, 3 }, { 1, 2, 4, 5 } }, { max_tokens = 3 }))
      model:score { { { 1, 2, 3 }, { 4, 5 } } }
      model:logits { 1, 2, 3 }
    end)
    sweep(20, function()
      local model <close> = wane.load(made())
      local result = wane.evaluate(model, { tasks = { "arc" }, data = "examples/data", trunc_eval = 2, max_tokens = 4 })
      assert.equal(2, result.n)
    end)
  end)
end)

describe("two runs", function()
  it("give the same bytes, whatever the method", function()
    local set = texts(16, 160)
    local models = { tiny, "examples/models/lune-1m" }
    for i, dir in ipairs(models) do
      for _, plan in ipairs { wane.gptq(), wane.awq(), wane.hqq(), wane.smoothquant(), wane.smoothquant { bits = 4 } } do
        local out = ("%s/twice-%d-%s-%d"):format(folder, i, plan.method, plan.bits)
        local said = {}
        for run = 1, 2 do
          local model <close> = wane.load(dir)
          local small <close> = wane.quantize(model, plan, plan.method ~= "hqq" and set or nil, { prove = false })
          small:save(out .. "-" .. run)
          local answers = small:generate({ { 5, 6, 7 }, { 8, 9 } }, { max_tokens = 12 })
          said[run] = table.concat(answers[1].ids, " ") .. "|" .. table.concat(answers[2].ids, " ")
        end
        assert.equal(said[1], said[2])
        local r = process.run(("cd %s && for f in *.safetensors; do cmp $f %s/$f || exit 1; done"):format(q(out .. "-1"),
          q(out .. "-2")))
        assert.equal(0, r.code, tostring(plan) .. ": " .. r.out .. r.err)
      end
    end
  end)
end)

describe("a kernel that faults", function()
  it("stops the study, which says so, and the same command goes on where it stopped", function()
    local library = process.build .. "/libwane_fault.so"
    if not real or core.files.kind(library) ~= "file" then return pending("no GPU, or no libwane_fault.so") end
    local dir = process.folder()
    assert(os.execute(("cp %s %s/wane && cp %s %s/libwane_cuda.so"):format(q(process.wane), q(dir), q(library), q(dir))))
    local chats, lines = io.lines "examples/data/calibration.jsonl", {}
    for i = 1, 64 do lines[i] = chats() end
    core.files.write(dir .. "/calib.jsonl", table.concat(lines, "\n") .. "\n")
    local function study(before)
      return process.run(("env WANE_DEVICE=cuda WANE_FAULT_BACKEND=%s %s %s/wane recipes/fallback.lua "
        .. "--models examples/models/lune-1m --trunc-eval 1 --calib %s/calib.jsonl --out %s/out"):format(
        q(process.build .. "/libwane_cuda.so"), before, dir, dir, dir))
    end
    local broken = study "WANE_FAULT=60"
    assert.equal(7, broken.code, broken.err)
    assert.matches("cuda:0: [%w_]+: the device failed and stays unusable until this process ends; start it again",
      broken.err)
    local finished = #core.files.list(dir .. "/out/cells")
    local done = study ""
    assert.equal(0, done.code, done.err)
    assert.equal(finished, select(2, done.err:gsub("finished before", "")))
    assert.equal(5, #core.files.list(dir .. "/out/cells"))
    remove(dir)
  end)
end)

describe("memory that another program holds", function()
  it("is not there: what does not fit is refused, what does runs in the same process", function()
    if not real then return pending("no GPU") end
    local big = folder .. "/big"
    wane.synth("Qwen3-0.6B", big, { layers = 1, tokenizer = "examples/models/lune-1m" })
    core.device.open("cuda")
    local held = folder .. "/held"
    local code = ([[local wane = require "wane"
      local d = require("wane.core").device
      local t = wane.tensor.zeros({ d.info().free - %d }, { dtype = "u8" })
      require("wane.core").files.write(%q, "held\n")
      io.read()]]):format(200 * MIB, held)
    local ballast = assert(io.popen(("env WANE_DEVICE=cuda %s -e %s"):format(q(process.wane), q(code)), "w"))
    local deadline = core.clock() + 20
    while not core.files.kind(held) and core.clock() < deadline do os.execute "sleep 0.05" end
    local free, live = core.device.info().free, core.device.live()
    assert.is_true(free < 400 * MIB, ("%d MiB free"):format(free // MIB))
    local model <close> = wane.load(big)
    local err = select(2, wane.try("oom", model.load, model))
    assert.is_true(err.requested > err.free and err.free <= free, err.message)
    assert.equal(live, (core.device.live()))
    local small <close> = wane.load "examples/models/lune-1m"
    assert.equal(4, small:generate({ { 1, 2, 3 } }, { max_tokens = 4 })[1].tokens)
    ballast:write "\n"
    ballast:close()
    model:load() -- and once it is free again
  end)
end)

describe("a GPU that is hidden", function()
  it("is told by doctor, by auto and by cuda", function()
    if not real then return pending("no GPU") end
    for _, hidden in ipairs { "", "7", "-1" } do
      local before = "env -u WANE_DEVICE CUDA_VISIBLE_DEVICES=" .. hidden
      local r = process.run_wane({ "doctor" }, nil, before)
      assert.matches("gpu +not used: the NVIDIA driver shows no GPU; look at nvidia%-smi and CUDA_VISIBLE_DEVICES", r.out)
      r = process.run_wane({ "-e", "print(require('wane').device { name = 'auto' }.name)" }, nil, before)
      assert.same({ "cpu\n", 0 }, { r.out, r.code })
      assert.matches("^wane: the CPU is used: cuda:0: cannot open: the NVIDIA driver shows no GPU", r.err)
      r = process.run_wane({ "-e", "require('wane').device { name = 'cuda' }" }, nil, before)
      assert.equal(7, r.code)
    end
    local r = process.run_wane({ "-e", "require('wane').device { name = 'cuda:9' }" }, nil, "env -u WANE_DEVICE")
    assert.equal(7, r.code)
    assert.matches("there is no GPU 9: this machine shows %d+", r.err)
  end)
end)
