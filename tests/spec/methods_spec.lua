-- What every quantization method owes; a new one is held to it with no line added here. Then what a plan is.
local wane = require "wane"
local core = wane.core

-- live bytes of both devices, once Lua has dropped what nothing holds
local function live()
  collectgarbage()
  collectgarbage()
  return { core.device.live() }
end

for _, method in ipairs(wane.methods()) do
  describe(method.name, function()
    local w
    lazy_setup(function() w = wane.tensor.random({ 64, 256 }, { seed = 1 }) end)
    lazy_teardown(function() w:close() end)

    it("says what it is, where it comes from and what it needs", function()
      assert.is_truthy(method.doc:find("%w"))
      assert.is_truthy(method.paper:find("%w"))
      assert.equal("boolean", type(method.needs_text))
      assert.equal(method, wane[method.name])
      assert.matches("^" .. method.name, tostring(method))
    end)

    it("has options that say what they are, with defaults that they accept", function()
      for _, option in ipairs(method.options) do
        assert.is_truthy(option.doc and #option.doc > 0, option.name)
        assert.equal(option, method.options[option.name])
        if option.default ~= nil then
          assert.equal(option.default, method { [option.name] = option.default }[option.name])
        end
      end
    end)

    it("refuses an option it does not have", function()
      assert.error_matches(function() method { bitz = 4 } end, "wane%." .. method.name .. ".*bitz.*did you mean bits")
      assert.error_matches(function() method { bits = 5 } end, "bits")
      assert.error_matches(function() method { bits = "4" } end, "bits")
      assert.error_matches(function() method(4) end, method.name)
    end)

    it("names the line that gave a wrong option", function()
      local _, message = pcall(function() method { bitz = 4 } end)
      assert.matches("methods_spec%.lua:%d+:", message)
    end)

    it("gives the same codes twice", function()
      assert.equal(method.encode(w):hash(), method.encode(w):hash())
    end)

    it("loses less with more bits", function()
      local last = math.huge
      for _, bits in ipairs(method.options.bits.choices) do
        local q <close>, result = method.encode(w, { bits = bits })
        local d <close> = q:decode()
        local loss = (d - w):norm() / w:norm()
        assert.is_true(loss < last, ("%d bits lose %g"):format(bits, loss))
        assert.is_true(math.abs(result.error - loss) < 1e-4 * loss + 1e-6) -- white inputs: the weights' own error
        assert.is_true(result.error <= result.rtn_error * 1.0001)
        last = loss
      end
    end)

    it("gives codes that show their grid", function()
      local plan = method { bits = 4, group_size = 32 }
      local q <close> = method.encode(w, plan)
      assert.same({ 4, 32 }, { q.bits, q.group_size })
      assert.same({ 64, 256 }, q.shape)
      assert.same({ 64, 8 }, { q.scale.shape[1], q.scale.shape[2] })
      assert.is_true(q:codes():max() <= 15)
      assert.matches("^codes w4 g32[ sym]* %(64, 256%)   .*   %d%.%d%d bits per weight$", tostring(q))
      assert.equal(method.name .. " " .. q.label, plan.label)
      local rows <close> = method.encode(w, { bits = 4, group_size = -1 })
      assert.same({ 256, 1 }, { rows.group_size, rows.scale.shape[2] }) -- the number, as for a group as wide
      assert.matches("^w4 g256", rows.label)
    end)

    it("gives back all memory, whichever allocation fails", function()
      for _, on_host in ipairs { false, true } do
        local before, n, err = live(), 0
        repeat
          core.device.fail_after(n, on_host)
          err = select(2, wane.try("oom", function() method.encode(w):close() end))
          core.device.fail_after(nil, on_host)
          assert.same(before, live())
          n = n + 1
        until not err
        if not on_host then assert.is_true(n > 3) end
      end
    end)

    it("refuses groups that do not divide the columns, and says which do", function()
      local odd <close> = wane.tensor.random({ 8, 96 }, { seed = 2 })
      local err = select(2, wane.try("unsupported", method.encode, odd, { bits = 4, group_size = 64 }))
      assert.matches("group_size = 32 or %-1", err.message)
      method.encode(odd, { bits = 4, group_size = 32 }):close()
      method.encode(odd, { bits = 4, group_size = -1 }):close()
    end)
  end)
end

describe("a plan", function()
  it("prints itself, and what it prints makes it again", function()
    local plan = wane.gptq { bits = 3, group_size = 32, damp = 0.05, order = false }
    assert.equal("gptq { bits = 3, group_size = 32, damp = 0.05, order = false }", tostring(plan))
    for _, made in ipairs { plan, wane.hqq { zero = "float" }, wane.awq(), wane.smoothquant(),
                            wane.smoothquant { bits = 4, alpha = 0.2 } } do
      local again = assert(load("local wane = ... return wane." .. tostring(made)))(wane)
      assert.equal(made, again)
      assert.equal(tostring(made), tostring(again))
    end
  end)

  it("compares by what it does", function()
    assert.equal(wane.awq(), wane.awq { bits = 4, group_size = 64 })
    assert.not_equal(wane.awq(), wane.awq { bits = 3 })
    assert.not_equal(wane.awq(), wane.rtn())
  end)

  it("carries its label and all its options", function()
    local plan = wane.gptq()
    assert.equal("gptq w4 g64 sym", plan.label)
    assert.same({ "gptq", 4, 64, true, 0.01, true },
      { plan.method, plan.bits, plan.group_size, plan.symmetric, plan.damp, plan.order })
    assert.equal("rtn w2 row sym", wane.rtn { bits = 2, group_size = -1, symmetric = true }.label)
  end)

  it("of smoothquant is W8A8, or groups below 8 bits", function()
    local plan = wane.smoothquant()
    assert.same({ 8, 8, -1, true, 0.5 },
      { plan.bits, plan.activation_bits, plan.group_size, plan.symmetric, plan.alpha })
    assert.equal("smoothquant w8a8", plan.label)
    assert.equal("smoothquant w8a8", wane.smoothquant { bits = 8, group_size = 64 }.label)
    local small = wane.smoothquant { bits = 4 }
    assert.same({ 16, 64, false }, { small.activation_bits, small.group_size, small.symmetric })
    assert.is_nil(small.alpha)
    assert.equal("smoothquant w8 g64", wane.smoothquant { bits = 8, activation_bits = 16 }.label)
    assert.error_matches(function() wane.smoothquant { bits = 4, activation_bits = 8 } end, "activation_bits")
  end)

  it("of hqq has zeros, which a symmetric grid has not", function()
    assert.error_matches(function() wane.hqq { symmetric = true } end, "symmetric")
    local w <close> = wane.tensor.random({ 16, 64 }, { seed = 3 })
    assert.equal("u8", wane.hqq.encode(w).zero.dtype)
    assert.equal("f32", wane.hqq.encode(w, { zero = "float" }).zero.dtype)
    assert.is_nil(wane.rtn.encode(w, { symmetric = true }).zero)
  end)
end)

describe("statistics brought along", function()
  local x, w, gram
  lazy_setup(function()
    x = wane.tensor.random({ 200, 64 }, { seed = 4 }) * wane.tensor.random({ 1, 64 }, { seed = 5 })
    w = wane.tensor.random({ 32, 64 }, { seed = 6 })
    gram = x:transpose():matmul(x)
  end)

  it("make gptq lose less at the outputs than rounding", function()
    local _, result = wane.gptq.encode(w, { bits = 3 }, { gram = gram })
    assert.is_true(result.error < 0.9 * result.rtn_error)
    assert.equal(0.01, result.damp)
    local y = x:matmul(w:transpose())
    local q = wane.gptq.encode(w, { bits = 3 }, { gram = gram }):decode()
    local measured = (x:matmul(q:transpose()) - y):norm() / y:norm()
    assert.is_true(math.abs(measured / result.error - 1) < 1e-2)
  end)

  it("give awq and smoothquant their scales", function()
    local magnitudes = x:abs()
    local mean, max = magnitudes:mean(1), magnitudes:max(1)
    local s, notes = wane.awq.scale(w, { ratio = 0.5 }, { gram = gram, mean = mean })
    assert.equal(0.5, notes.ratio)
    assert.same({ 1, 64 }, { s.shape[1], s.shape[2] })
    s, notes = wane.smoothquant.scale(w, {}, { gram = gram, max = max })
    assert.equal(0.5, notes.alpha)
    local expected = (max / w:abs():max(1)):sqrt():reshape({ 1, 64 })
    assert.is_true((s - expected):norm() / expected:norm() < 1e-5)
    assert.error_matches(function() wane.awq.scale(w, {}, { gram = gram }) end, "mean")
  end)

  it("of the wrong shape are refused", function()
    assert.has_error(function() wane.gptq.encode(w, {}, { gram = wane.tensor.zeros { 32, 32 } }) end)
    assert.has_error(function() wane.gptq.encode(w, {}, { gram = wane.tensor.zeros { 64, 32 } }) end)
    assert.has_error(function() wane.gptq.encode(w, {}, {}) end)
  end)
end)

describe("matrices at the edge", function()
  it("of zeros decode to zeros, groups of zeros too", function()
    for _, method in ipairs(wane.methods()) do
      local zeros <close> = wane.tensor.zeros { 4, 64 }
      local d <close> = method.encode(zeros, { bits = 4 }):decode()
      assert.equal(0, d:abs():max())
    end
  end)

  it("with an input that is always zero keep all else finite", function()
    local w <close> = wane.tensor.random({ 16, 64 }, { seed = 7 })
    local x = wane.tensor.random({ 100, 64 }, { seed = 8 }):numbers()
    for i = 1, #x do
      if type(x[i]) == "table" then x[i][3] = 0 end
    end
    if type(x[1]) == "number" then for i = 3, #x, 64 do x[i] = 0 end end
    local t = wane.tensor.from(x):reshape({ 100, 64 })
    local gram, mean, max = t:transpose():matmul(t), t:abs():mean(1), t:abs():max(1)
    for _, method in ipairs(wane.methods()) do
      local q <close>, result = method.encode(w, { bits = 4 }, { gram = gram, mean = mean, max = max })
      assert.is_true(result.error > 0 and result.error < 1)
      assert.is_true(q:decode():norm() < math.huge)
    end
  end)

  it("that are no matrices are refused", function()
    assert.has_error(function() wane.rtn.encode(wane.tensor.zeros { 4, 4, 64 }) end)
    assert.has_error(function() wane.rtn.encode(wane.tensor.zeros({ 4, 64 }, { dtype = "i32" })) end)
  end)
end)
