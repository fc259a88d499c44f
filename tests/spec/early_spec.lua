-- A result whose files are written while its layers are still being made, as it is where a GPU computes: the same bytes
-- as saving it afterwards, and nothing on the disk where it does not come to be.
local wane = require "wane"
local core = wane.core
local process = require "support.process"

local far = process.build .. "/far/wane" -- beside a stand-in for a GPU

-- runs code there, or here where a GPU computes; DIR is a folder of its own
local function run(code)
  local dir = process.folder()
  local program = core.device.info().name ~= "cpu" and process.wane or far
  local text = ("local DIR = %q\n"):format(dir) .. [[
    local wane = require "wane"
    local core = wane.core
    local model <close> = wane.load "examples/models/lune-1m"
    local set = wane.calibration { file = "examples/data/calibration.jsonl", samples = 16, force = true }
    local begun, begin = 0, core.early.begin
    core.early.begin = function(...) begun = begun + 1 return begin(...) end
  ]] .. code
  local r = process.run(("env WANE_DEVICE=cuda %s -e %s"):format(process.quote(program), process.quote(text)))
  local left = core.files.list(dir)
  return r, left, dir
end

local function remove(dir) assert(os.execute("rm -r " .. process.quote(dir))) end

describe("a result that is written while it is made", function()
  if core.device.info().name == "cpu" and core.files.kind(far) ~= "file" then
    return pending("build/far/wane is not built")
  end

  it("has the bytes of one that is saved afterwards, whatever the method and the format", function()
    local r, _, dir = run [[
      require("wane.formats").shard_bytes = 400000 -- several files
      for i, plan in ipairs { wane.gptq(), wane.gptq { bits = 3 }, wane.awq(), wane.hqq { zero = "float" },
                              wane.smoothquant(), wane.rtn { bits = 8, group_size = -1, format = "gptq-v2" } } do
        local out = DIR .. "/" .. i
        local small <close> = wane.quantize(model, plan, set, { out = out, prove = false })
        small:save(out .. "-again", { shard_bytes = 400000 })
        print(begun == i, #core.files.list(out) > 8)
      end
    ]]
    assert.equal(("true\ttrue\n"):rep(6), r.out, r.err)
    for i = 1, 6 do
      local same = process.run(("diff -r %s/%d %s/%d-again"):format(dir, i, dir, i))
      assert.equal("", same.out)
      assert.equal(0, same.code)
    end
    remove(dir)
  end)

  it("is saved again where its codes have another grid than was foreseen", function()
    local r, left, dir = run [[
      core.early.begin = function(m, out, grid) begun = 1 grid.symmetric = not grid.symmetric return begin(m, out, grid) end
      local small <close> = wane.quantize(model, wane.rtn(), nil, { out = DIR .. "/out", prove = false })
      small:save(DIR .. "/again")
      print(begun)
    ]]
    assert.equal("1\n", r.out, r.err)
    assert.equal(2, #left)
    assert.equal(0, process.run(("diff -r %s/out %s/again"):format(dir, dir)).code)
    remove(dir)
  end)

  it("leaves nothing where it is given up, and where it cannot be written says so", function()
    local r, left, dir = run [[
      local out = DIR .. "/out"
      print(pcall(wane.quantize, model, wane.rtn(), nil, { out = out, prove = false,
        on_layer = function(i) if i == 2 then error("enough", 0) end end }))
      print(#core.files.list(DIR))
      local _, err = wane.try("io", wane.quantize, model, wane.rtn(), nil, { out = out, prove = false,
        on_layer = function(i) if i == 1 then core.files.mkdir(out) end end })
      print(err.code, err.path == out)
      local small <close> = wane.quantize(model, wane.rtn(), nil, { out = DIR .. "/next", prove = false })
      print(begun)
    ]]
    assert.equal("false\tenough\n0\nio\ttrue\n3\n", r.out, r.err)
    table.sort(left)
    assert.same({ "next", "out" }, left)
    assert.equal(0, #core.files.list(dir .. "/out"))
    remove(dir)
  end)
end)
