-- Tensors as Lua values: what they hold, views, arithmetic, conversions, and memory when it runs out.
local core = require "wane.core"
local wane = require "wane"

local tensor, device = core.tensor, core.device
local MIB = 1 << 20

local raises = require "support.raises"

-- What f raises: a string with that text in it.
local function refuses(text, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.equal("string", type(err), tostring(err))
  assert.is_truthy(err:find(text, 1, true), err)
end

describe("making tensors", function()
  it("takes nested tables and gives them back", function()
    local tables = { { 1, 2, 3 }, { { 1, 2 }, { 3, 4 }, { 5, 6 } }, { { { 0.5 } }, { { -2 } } }, {}, { {}, {} } }
    for _, numbers in ipairs(tables) do
      assert.same(numbers, tensor.from(numbers):numbers())
    end
    assert.equal(7.5, tensor.from(7.5):number())
    assert.equal(7.5, tensor.from(7.5):numbers())
  end)

  it("knows its shape, dtype, device and rank", function()
    local t = tensor.from({ { 1, 2, 3 }, { 4, 5, 6 } }, { dtype = "bf16" })
    assert.same({ 2, 3 }, t.shape)
    assert.equal("bf16", t.dtype)
    assert.equal(2, t.rank)
    assert.equal(2, #t)
    assert.equal(device.info().name, t.device)
    assert.is_nil(t.colour)
    assert.same({}, tensor.from(1).shape)
  end)

  it("keeps integers exact and refuses what does not fit", function()
    local big = { math.maxinteger, math.mininteger, 2 ^ 53 | 1 }
    assert.same(big, tensor.from(big, { dtype = "i64" }):numbers())
    assert.equal("integer", math.type(tensor.from({ 1 }, { dtype = "u8" }):number()))
    refuses("no whole number from 0 to 255", tensor.from, { 256 }, { dtype = "u8" })
    refuses("no whole number", tensor.from, { -1 }, { dtype = "u8" })
    refuses("no whole number", tensor.from, { 1.5 }, { dtype = "i32" })
    assert.same({ -128, 127 }, tensor.from({ -128, 127 }, { dtype = "i8" }):numbers())
  end)

  it("refuses ragged tables, strings and rank 9", function()
    refuses("dimension 2 are not all of 2", tensor.from, { { 1, 2 }, { 3 } })
    refuses("dimension 2 are not all of 2", tensor.from, { { 1, 2 }, 3 })
    refuses("element 2 is a table", tensor.from, { { 1 }, { { 1 } } })
    refuses("element 2 is a string", tensor.from, { 1, "2" })
    refuses("at most 8", tensor.from, { { { { { { { { { 1 } } } } } } } } })
    refuses("table expected", tensor.from, "1")
  end)

  it("refuses unknown options and names the one meant", function()
    refuses("has no option dtpe; did you mean dtype?", tensor.from, { 1 }, { dtpe = "f32" })
    refuses("has no option sed; did you mean seed?", tensor.random, { 1 }, { sed = 1 })
    refuses("no dtype is called", tensor.zeros, { 1 }, { dtype = "fp32" })
    refuses("whole numbers", tensor.zeros, { 1.5 })
    refuses("whole numbers", tensor.zeros, { -1 })
    refuses("more bytes than any memory", tensor.zeros, { 1 << 20, 1 << 26 })
  end)

  it("counts", function()
    assert.same({ 1, 2, 3 }, tensor.arange(3):numbers())
    assert.same({ 5, 3, 1 }, tensor.arange(5, 0, { step = -2 }):numbers())
    assert.same({}, tensor.arange(1, 0):numbers())
    assert.equal(11, #tensor.arange(0, 1, { step = 0.1 }))
    assert.same({ 16777216, 16777217 }, tensor.arange(16777216, 16777217, { dtype = "i32" }):numbers())
    refuses("not 0", tensor.arange, 1, 2, { step = 0 })
    refuses("finite", tensor.arange, 1, math.huge)
    assert.same({ { 0, 0 }, { 0, 0 } }, tensor.zeros({ 2, 2 }, { dtype = "i8" }):numbers())
  end)

  it("draws the same random numbers for the same seed", function()
    local a, b = tensor.random({ 10, 10 }, { seed = 7 }), tensor.random({ 10, 10 }, { seed = 7 })
    assert.equal(a, b)
    assert.equal(a:hash(), b:hash())
    assert.not_equal(a, tensor.random({ 10, 10 }, { seed = 8 }))
    local n = tensor.random(20000, { seed = 1, distribution = "normal", mean = 3, deviation = 2 })
    assert.near(3, n:mean(), 0.05)
    assert.near(2, ((n - 3) * (n - 3)):mean() ^ 0.5, 0.05)
    local u = tensor.random(20000, { seed = 1, low = -1, high = 1 })
    assert.is_true(u:min() >= -1 and u:max() < 1)
    assert.near(0, u:mean(), 0.02)
    refuses("no option low", tensor.random, { 1 }, { distribution = "normal", low = 0 })
  end)

  it("always draws these numbers for seed 1", function()
    assert.equal("910a2d", ("%06x"):format(tensor.random({ 1 }, { seed = 1 }):number() * 2 ^ 24 // 1 | 0))
  end)
end)

describe("views", function()
  local t
  before_each(function() t = tensor.arange(24):reshape { 4, 3, 2 } end)

  it("are rows, and numbers at the end", function()
    assert.same({ { 7, 8 }, { 9, 10 }, { 11, 12 } }, t[2]:numbers())
    assert.equal(10, t[2][2][2])
    assert.is_nil(t[5])
    assert.is_nil(t[0])
    assert.is_nil(t[1][1][3])
    refuses("rank 0", function() return tensor.from(1)[1] end)
    refuses("rank 0", function() return #tensor.from(1) end)
  end)

  it("are slices along any dimension", function()
    assert.same({ 4, 1, 2 }, t:slice(2, 3, 3).shape)
    assert.same({ { { 4, 6 } } }, { t:slice(3, 2):slice(1, 1, 1):reshape({ 1, 3 }):slice(2, 2, 3):numbers() })
    assert.same({ 4, 0, 2 }, t:slice(2, 1, 0).shape)
    refuses("no dimension 4", t.slice, t, 4, 1, 1)
    refuses("not all within", t.slice, t, 1, 1, 5)
    refuses("not all within", t.slice, t, 1, 0, 1)
    refuses("not all within", t.slice, t, 1, 3, 1)
  end)

  it("take no memory and outlive what they look at", function()
    collectgarbage()
    local live = device.live()
    local part = t:slice(1, 2, 3)
    local row = part[1]
    assert.equal(live, device.live())
    t:close()
    part:close()
    collectgarbage()
    assert.equal(live, device.live())
    assert.same({ { 7, 8 }, { 9, 10 }, { 11, 12 } }, row:numbers())
  end)

  it("reshape, also where a copy is needed", function()
    assert.same({ 24 }, t:reshape(24).shape)
    assert.same({ 2, 4, 6, 8 }, t:slice(3, 2):slice(1, 1, 2):reshape({ 6 }):slice(1, 1, 4):numbers())
    refuses("cannot reshape 24 elements to 25", t.reshape, t, { 5, 5 })
  end)

  it("transpose matrices", function()
    assert.same({ { 1, 3 }, { 2, 4 } }, tensor.from({ { 1, 2 }, { 3, 4 } }):transpose():numbers())
    assert.equal("i64", tensor.arange(1, 4, { dtype = "i64" }):reshape({ 2, 2 }):transpose().dtype)
    refuses("only a matrix", t.transpose, t)
  end)
end)

describe("arithmetic", function()
  local a = tensor.from { { 1, 2, 3 }, { 4, 5, 6 } }

  it("is element by element, with scalars on either side", function()
    assert.same({ { 2, 4, 6 }, { 8, 10, 12 } }, (a + a):numbers())
    assert.same({ { 0, 1, 2 }, { 3, 4, 5 } }, (a - 1):numbers())
    assert.same({ { 9, 8, 7 }, { 6, 5, 4 } }, (10 - a):numbers())
    assert.same({ { 12, 6, 4 }, { 3, 2.4000000953674316, 2 } }, (12 / a):numbers())
    assert.same({ { -1, -2, -3 }, { -4, -5, -6 } }, (-a):numbers())
  end)

  it("repeats rows and columns", function()
    assert.same({ { 11, 22, 33 }, { 14, 25, 36 } }, (a + tensor.from { 10, 20, 30 }):numbers())
    assert.same({ { 10, 20, 30 }, { 80, 100, 120 } }, (a * tensor.from { { 10 }, { 20 } }):numbers())
    assert.same({ { 1, 2 }, { 2, 4 } }, (tensor.from { { 1 }, { 2 } } * tensor.from { { 1, 2 } }):numbers())
    refuses("shapes (2, 3) and (2) do not fit", function() return a + tensor.from { 1, 2 } end)
    refuses("tensor or number expected, got string", function() return a + "1" end)
    refuses("tensor or number expected, got nil", function() return nil * a end)
  end)

  it("is float32 whatever it is given", function()
    local b = tensor.from({ 1, 2 ^ -9 }, { dtype = "bf16" })
    assert.equal("f32", (b + b).dtype)
    assert.equal(1 + 2 ^ -9, (b:slice(1, 1, 1) + b:slice(1, 2, 2)):number())
    assert.same({ 3, 6 }, (tensor.from({ 1, 2 }, { dtype = "i64" }) * 3):numbers())
  end)

  it("has roots, exponents, logarithms", function()
    assert.same({ 2, 3 }, tensor.from({ 4, 9 }):sqrt():numbers())
    assert.same({ 1, 2 }, tensor.from({ -1, 2 }):abs():numbers())
    local x = tensor.from { -1.5, 0, 2 }
    assert.near(0, (x:exp():log() - x):abs():max(), 1e-6)
    assert.equal(-math.huge, tensor.from(0):log():number())
    local nan = tensor.from(-1):sqrt():number()
    assert.is_true(nan ~= nan)
  end)

  it("multiplies matrices", function()
    local b = tensor.from { { 1, 0 }, { 0, 1 }, { 1, 1 } }
    assert.same({ { 4, 5 }, { 10, 11 } }, a:matmul(b):numbers())
    assert.same({ 4, 5 }, a[1]:matmul(b):numbers())
    refuses("(2, 3) by (2, 3)", a.matmul, a, a)
    refuses("tensor expected", a.matmul, a, 3)
    assert.same({ { 0, 0 } }, tensor.zeros({ 1, 0 }):matmul(tensor.zeros { 0, 2 }):numbers())
  end)

  it("measures how far a quantized matrix is", function()
    local w = tensor.random({ 64, 64 }, { seed = 3, distribution = "normal" })
    local q = w:to("bf16")
    local loss = (q - w):norm() / w:norm()
    assert.is_true(loss > 1e-4 and loss < 2 ^ -8, tostring(loss))
  end)
end)

describe("reductions", function()
  local a = tensor.from { { 1, -2, 3 }, { 4, 5, -6 } }

  it("are numbers over all, tensors along a dimension", function()
    assert.equal(5, a:sum())
    assert.equal(5 / 6, a:mean())
    assert.equal(-6, a:min())
    assert.equal(5, a:max())
    assert.near(91 ^ 0.5, a:norm(), 1e-5)
    assert.same({ { 5, 3, -3 } }, a:sum(1):numbers())
    assert.same({ { 2 }, { 3 } }, a:sum(2):numbers())
    assert.same({ { -2 }, { -6 } }, a:min(2):numbers())
    assert.same({ { 4, 5, 3 } }, a:max(1):numbers())
    assert.same({ { 5 } }, tensor.from({ { 3, 4 } }):norm(2):numbers())
    assert.same({ { 2.5, 1.5, -1.5 } }, a:mean(1):numbers())
    assert.equal(0, (a - a:mean(1)):sum())
  end)

  it("find the largest, the lowest of equals first", function()
    assert.equal(5, a:argmax())
    assert.same({ { 2, 2, 1 } }, a:argmax(1):numbers())
    assert.same({ { 3 }, { 2 } }, a:argmax(2):numbers())
    assert.equal(1, tensor.from({ 7, 7 }):argmax())
    assert.equal(0, tensor.from({ 1, 0 / 0 }):argmax())
  end)

  it("of nothing are 0 or refused", function()
    local none = tensor.zeros { 0, 3 }
    assert.equal(0, none:sum())
    assert.equal(0, none:norm())
    assert.same({ { 0, 0, 0 } }, none:sum(1):numbers())
    refuses("nothing to take the mean of", none.mean, none)
    refuses("nothing to take the max of", none.max, none, 1)
    refuses("nothing", none.argmax, none)
    refuses("no dimension 3", a.sum, a, 3)
  end)
end)

describe("conversions", function()
  it("round half to even and saturate", function()
    local x = tensor.from { 1 + 2 ^ -8, 1 + 3 * 2 ^ -8, 1e39, -1e39, 0.5, 1.5, 2.5 }
    assert.same({ 1, 1 + 4 * 2 ^ -8, math.huge, -math.huge, 0.5, 1.5, 2.5 }, x:to("bf16"):numbers())
    assert.same({ 0, 2, 2, -128, 127 }, tensor.from({ 0.5, 1.5, 2.5, -1000, 1000 }):to("i8"):numbers())
    assert.same({ 0, 255 }, tensor.from({ -5, 1000 }, { dtype = "i32" }):to("u8"):numbers())
  end)

  it("go to a device and back", function()
    local t = tensor.from({ { 1, 2 }, { 3, 4 } }, { dtype = "f16" })
    local host = t:to { device = "host", dtype = "f32" }
    assert.equal("host", host.device)
    assert.equal("f32", host.dtype)
    assert.equal(t:to "f32", host:to(t.device))
    assert.equal("f16", t:to("cpu").dtype)
    refuses("no device is called", t.to, t, "gpu")
    refuses("no option divice; did you mean device?", t.to, t, { divice = "cpu" })
    if device.info().name == "cpu" then raises("device", t.to, t, "cuda") end
  end)

  it("are only for one element where one number is asked for", function()
    assert.equal(3, tensor.from({ { 3 } }):number())
    refuses("2 elements is not one number", tensor.from({ 1, 2 }).number, tensor.from { 1, 2 })
  end)
end)

describe("equality and hashes", function()
  it("compare dtype, shape and bits", function()
    local a = tensor.from { { 1, 2 }, { 3, 4 } }
    assert.is_true(a == tensor.from { { 1, 2 }, { 3, 4 } })
    assert.is_false(a == tensor.from { 1, 2, 3, 4 })
    assert.is_false(a == a:to "bf16")
    assert.is_false(a == tensor.from { { 1, 2 }, { 3, 5 } })
    assert.is_false(a == 1)
    assert.is_true(a:slice(2, 2, 2) == tensor.from { { 2 }, { 4 } })
    assert.is_true(a == a:to "host")
    assert.is_false(tensor.from(0.0) == tensor.from(-0.0))
    -- bits, so a NaN equals its copies; arithmetic may give another NaN (a GPU always gives 0x7fffffff)
    local nan = tensor.from(0 / 0)
    assert.is_true(nan == tensor.from(0 / 0))
    assert.is_true(nan == nan:to "host")
    assert.is_false(nan == tensor.from(1.0))
  end)

  it("hash the dtype, the shape and the bytes", function()
    -- printf 'u8 2 2\n\1\2\3\4' | sha256sum
    local t = tensor.from({ { 1, 2 }, { 3, 4 } }, { dtype = "u8" })
    assert.equal("8b64912eb52c73016633b4fbcf2f0b60377c5f0014c063c8fb1c0309cabdd980", t:hash())
    assert.equal(t:hash(), t:to("host"):hash())
    assert.not_equal(t:hash(), t:reshape({ 4 }):hash())
    assert.not_equal(t:hash(), t:to("i8"):hash())
  end)
end)

describe("printing", function()
  local name = device.info().name
  local where = name == "cpu" and "" or " on " .. name

  it("shows small ones whole", function()
    local matrix = tensor.from { { 1, 2 }, { 3, 4.5 } }
    assert.equal("tensor f32 (2, 2)" .. where .. "\n         1         2\n         3       4.5", tostring(matrix))
    assert.equal("tensor i64 (3)" .. where .. "\n         1         2         3", tostring(tensor.arange(3, { dtype = "i64" })))
    assert.equal("tensor f32 ()" .. where .. "\n       0.5", tostring(tensor.from(0.5)))
    assert.equal("tensor f32 (0, 3)" .. where, tostring(tensor.zeros { 0, 3 }))
    assert.equal("tensor f32 (2, 2, 2)" .. where, tostring(tensor.zeros { 2, 2, 2 }))
  end)

  it("leaves out the middle of large ones", function()
    local text = tostring(tensor.arange(1, 20000, { dtype = "i32" }):reshape { 100, 200 })
    local lines = {}
    for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal("tensor i32 (100, 200)" .. where, lines[1])
    assert.equal(9, #lines)
    assert.same({ "1", "2", "3", "4", "...", "198", "199", "200" }, { lines[2]:match(("(%S+)%s+"):rep(7) .. "(%S+)") })
    assert.equal("  ...", lines[6])
    assert.is_truthy(lines[9]:find(" 20000$"))
    for _, line in ipairs(lines) do assert.is_true(#line <= 80) end
  end)

  it("says when it is closed", function()
    local t = tensor.from { 1 }
    t:close()
    assert.equal("tensor (closed)", tostring(t))
  end)
end)

describe("memory", function()
  local function live()
    collectgarbage()
    collectgarbage()
    return device.live()
  end

  it("goes when a tensor is closed, left or collected", function()
    local start = live()
    local t = tensor.zeros { 1000 }
    assert.equal(start + 4000, device.live())
    t:close()
    t:close()
    assert.equal(start, device.live())
    refuses("this tensor is closed", function() return t + 1 end)
    refuses("this tensor is closed", function() return t.shape end)
    do
      local scoped <close> = tensor.zeros { 1000 }
      assert.equal(start + 4000, device.live())
      assert.equal(0, scoped:sum())
    end
    assert.equal(start, device.live())
    tensor.zeros { 1000 }
    assert.equal(start, live())
  end)

  -- Everything that allocates, with one result to look at.
  local function chain()
    local a = tensor.random({ 6, 8 }, { seed = 1, distribution = "normal", dtype = "bf16" })
    local b = tensor.from({ { 1, 2, 3, 4 }, { 5, 6, 7, 8 } }, { dtype = "f16" }):reshape { 4, 2 }
    local c = -a:slice(2, 1, 4):abs():matmul(b)
    local d = (c / c:norm(2) - c:mean(1)) * 2 + tensor.arange(1, 2)
    local e = d:transpose():sqrt():exp():log():to("i8"):argmax(1)
    local f = d:to { device = "host", dtype = "bf16" }
    return tensor.zeros({ 2 }, { dtype = "i64" })[1] + e:sum() + f:to("f32"):max() + #a:hash() + #tostring(a)
      + (a:slice(2, 2, 2) == a:slice(2, 3, 3) and 1 or 0) + #c:slice(2, 1, 1):numbers()
  end

  for _, where in ipairs { { "device", false }, { "host", true } } do
    it("comes back whichever allocation on the " .. where[1] .. " fails", function()
      local start, host_start = live(), select(2, device.live())
      local n = 0
      local function try()
        device.fail_after(n, where[2])
        local value, err = wane.try("oom", chain)
        device.fail_after(nil, where[2])
        if value then return true end
        assert.equal("alloc", err.op)
        assert.is_true(err.requested > 0)
      end
      repeat
        local done = try() -- its locals are gone: a result that is kept is live
        assert.equal(start, live())
        assert.equal(host_start, select(2, device.live()))
        n = n + 1
      until done
      assert.is_true(n > (where[2] and 1 or 20), "only " .. n .. " allocations")
    end)
  end

  it("is found again by one more try", function()
    local expected = chain()
    for n = 0, 60 do
      device.fail_after(n, false, 1)
      assert.equal(expected, chain())
    end
    device.fail_after(nil)
  end)

  describe("of a small device", function()
    local memory = 12 * MIB
    setup(function() device.open("cpu", memory, memory) end)
    teardown(function() device.open("auto") end)

    it("lets a thousand tensors through that nobody closes", function()
      local sum = 0
      for i = 1, 1000 do sum = sum + (tensor.zeros { 256, 1024 } + i)[1][1] end
      assert.equal(500500, sum)
      assert.is_true(device.info().peak <= memory)
    end)

    it("says how much was asked for and what is free", function()
      local kept <close> = tensor.zeros { MIB }
      collectgarbage()
      local room = device.info().free
      local err = raises("oom", tensor.zeros, { 3 * MIB })
      assert.equal(12 * MIB, err.requested)
      assert.equal(room, err.free)
      assert.equal("cpu", err.device)
      assert.equal(
        ("cpu: out of memory: 12 MiB asked for, %s of 12 MiB free; raise memory = or take a smaller model"):format(
          device.format_bytes(room)
        ),
        tostring(err)
      )
      assert.equal(0, kept:sum())
      local none, caught = wane.try("oom", tensor.zeros, { 3 * MIB })
      assert.is_nil(none)
      assert.equal("oom", caught.code)
    end)
  end)
end)
