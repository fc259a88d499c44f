-- The device in use: what "auto" is, what the program tells where no GPU is used, and a whole run on the stand-in for a
-- GPU whose memory C cannot read (tests/support/far_cuda.c).
local core = require "wane.core"
local process = require "support.process"

-- runs a line of Lua in a copy of the program beside a CUDA backend that cannot be opened
local function beside_broken(code, before)
  local dir = process.folder()
  local q = process.quote
  assert(os.execute(("cp %s %s/wane && echo no library >%s/libwane_cuda.so"):format(q(process.wane), q(dir), q(dir))))
  local r = process.run(("%s %s -e %s"):format(before, q(dir .. "/wane"), q(code)))
  assert(os.execute("rm -r " .. q(dir)))
  return r
end

local NAME = "print(require('wane').device { name = 'auto' }.name)"

describe("auto", function()
  it("is the CPU where no GPU can be used, and the program tells why, once", function()
    local r = beside_broken(NAME .. " " .. NAME, "env -u WANE_DEVICE")
    assert.equal("cpu\ncpu\n", r.out)
    assert.matches("^wane: the CPU is used: cuda:0: cannot open: %S*libwane_cuda.so: [^\n]+\n$", r.err)
  end)

  it("is silent where warnings are off, and tells through info()", function()
    local r = beside_broken("warn '@off' local c = require 'wane.core' print(c.device.info().no_gpu)",
      "env -u WANE_DEVICE")
    assert.equal("", r.err)
    assert.matches("^cuda:0: cannot open: ", r.out)
  end)

  it("is what WANE_DEVICE names", function()
    local r = beside_broken(NAME, "env WANE_DEVICE=cpu")
    assert.same({ "cpu\n", "" }, { r.out, r.err })
    r = beside_broken(NAME, "env WANE_DEVICE=cuda:3")
    assert.equal(7, r.code)
    assert.matches("cuda:3: cannot open: ", r.err)
  end)
end)

describe("warnings of scripts", function()
  it("go to stderr, a line each, until they are switched off", function()
    local r = process.run_wane { "-e", "warn('a', 'b') warn '@off' warn 'c' warn '@on' warn('@x', 'd')" }
    assert.equal("wane: ab\nwane: @xd\n", r.err)
  end)
end)

describe("a device that is not the host", function()
  local far = process.build .. "/far/wane"

  it("quantizes and answers like the CPU", function()
    if core.files.kind(far) ~= "file" then return pending("build/far/wane is not built") end
    local code = [[
      local wane = require "wane"
      local model <close> = wane.load "examples/models/lune-1m"
      local set = wane.calibration { file = "examples/data/calibration.jsonl", samples = 32, force = true }
      local small <close> = wane.quantize(model, wane.gptq { bits = 4 }, set, { prove = false })
      print(wane.device().name, small.quantization.error, small.quantization.rtn_error)
      print(small:generate({ "What is 2 times 3?" }, { max_tokens = 8 })[1].tokens > 0)
    ]]
    local function run(before, program)
      local r = process.run(("env %s %s -e %s"):format(before, process.quote(program), process.quote(code)))
      assert.equal(0, r.code, r.err)
      return r.out
    end
    local name, error, rtn, said = run("WANE_DEVICE=cuda", far):match "(%S+)\t(%S+)\t(%S+)\n(%S+)\n"
    local _, want, want_rtn = run("WANE_DEVICE=cpu", process.wane):match "(%S+)\t(%S+)\t(%S+)\n(%S+)\n"
    assert.equal("cuda:0", name)
    assert.near(tonumber(want), tonumber(error), 0.02 * tonumber(want))
    assert.near(tonumber(want_rtn), tonumber(rtn), 0.02 * tonumber(want_rtn))
    assert.equal("true", said)
  end)

  it("that breaks stops the study, says so, and the same command goes on where it stopped", function()
    if core.files.kind(far) ~= "file" then return pending("build/far/wane is not built") end
    local dir = process.folder()
    local chats, lines = io.lines "examples/data/calibration.jsonl", {}
    for i = 1, 64 do lines[i] = chats() end
    core.files.write(dir .. "/calib.jsonl", table.concat(lines, "\n") .. "\n")
    local function study(before)
      return process.run(("env WANE_DEVICE=cuda %s %s recipes/fallback.lua --models examples/models/lune-1m "
        .. "--trunc-eval 1 --calib %s/calib.jsonl --out %s/out"):format(before, process.quote(far), dir, dir))
    end
    local broken = study "WANE_FAR_FAULT=300"
    assert.equal(7, broken.code, broken.err)
    assert.matches("cuda:0: %w+: the device failed and stays unusable until this process ends; start it again",
      broken.err)
    local finished = core.files.list(dir .. "/out/cells")
    assert.is_true(#finished > 0 and #finished < 5)
    local done = study ""
    assert.equal(0, done.code, done.err)
    assert.equal(#finished, select(2, done.err:gsub("finished before", "")))
    assert.equal(5, #core.files.list(dir .. "/out/cells"))
    assert(os.execute("rm -r " .. process.quote(dir)))
  end)
end)
