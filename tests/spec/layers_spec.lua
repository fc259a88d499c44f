-- The shape of the sources: who includes whom, what a file looks like, what the library never calls.
local core = require "wane.core"
local process = require "support.process"

-- A folder may include what stands to its left, never to its right; within a folder all may.
local order = { "kernels", "base", "data", "tensor", "text", "model", "quant", "save", "hub", "bind", "host", "main" }
local rank = {}
for i, name in ipairs(order) do rank[name] = i end

-- the layer of a file by its path; nil where it has none
local function layer(path)
  if path:find("^kernels/") then return "kernels" end
  local names = { host = "host", wane = "host", module = "host", main = "main", edit = "main" }
  return path:match("^runtime/(%l+)/") or names[path:match("^runtime/(%l+)%.[ch]$")]
end

local function sources(pattern)
  local found = {}
  for path in process.run("git ls-files -co --exclude-standard 2>/dev/null || find . -type f | cut -c3-").out:gmatch "[^\n]+" do
    if path:find(pattern) and core.files.kind(path) == "file" then found[#found + 1] = path end
  end
  assert(#found > 0, "no sources: run this in the root of the tree")
  return found
end

local text, c_files = {}, {}
for _, path in ipairs(sources "%.%l+$") do
  local ending = path:match("%.(%l+)$")
  local in_c = ending == "c" or ending == "h" or ending == "cu" or ending == "cuh"
  if in_c or ending == "lua" then text[path] = core.files.read(path) end
  if in_c and (path:find("^kernels/") or path:find("^runtime/")) then c_files[#c_files + 1] = path end
end

-- headers of a file, by their lines
local function includes(path, opening)
  local found = {}
  for line in (text[path] .. "\n"):gmatch "(.-)\n" do
    local name = line:match("^%s*#%s*include%s*" .. opening .. "([^\">]+)")
    if name then found[#found + 1] = name end
  end
  return found
end

describe("the layers", function()
  it("are found", function()
    assert.equal("kernels", layer "kernels/cpu/matmul.c")
    assert.equal("tensor", layer "runtime/tensor/device.h")
    assert.equal("host", layer "runtime/host.c")
    assert.is_true(#c_files > 50)
  end)

  for _, path in ipairs(c_files) do
    it("are kept by " .. path, function()
      local own = rank[layer(path)]
      assert.is_truthy(own, path .. " is in no layer")
      for _, header in ipairs(includes(path, '"')) do
        if header:find("/") then
          local theirs = rank[layer(header)]
          assert.is_truthy(theirs, header .. " is in no layer")
          assert.is_true(theirs <= own, ("%s must not include %s"):format(path, header))
          assert.equal("file", core.files.kind(header), header .. " is not named from the root")
        end
      end
      for _, header in ipairs(includes(path, "<")) do
        if header:find("^l[ua][ux][al].*%.h$") or header == "lfs.h" then
          assert.is_true(own >= rank.bind, path .. " must not know Lua")
        end
      end
    end)
  end

  it("would notice a wrong include", function()
    assert.is_true(rank.tensor < rank.model and rank.model < rank.bind)
    text["runtime/base/imagined.c"] = '#include "runtime/bind/bind.h"\n'
    assert.same({ "runtime/bind/bind.h" }, includes("runtime/base/imagined.c", '"'))
    text["runtime/base/imagined.c"] = nil
  end)
end)

describe("a file", function()
  for path, body in pairs(text) do
    local generated = path:find("/generated/") ~= nil
    if not path:find("^tests/reference/") and not generated then
      it(path .. " begins by naming itself or its purpose, and is not too long", function()
        local _, lines = body:gsub("\n", "\n")
        assert.is_true(lines <= 700, ("%d lines: split it"):format(lines))
        local first = body:match("^[^\n]*")
        if path:find("%.lua$") then
          assert.matches("^%-%-", first)
        else
          local name = path:match("[^/]+$"):gsub("%p", "%%%0")
          assert.matches("^/[*/] " .. name .. " %- ", first)
        end
        assert.matches("\n$", body)
        assert.is_nil(body:find("\r", 1, true))
        assert.is_nil(body:find("[ \t]\n"), "white space at the end of a line")
      end)

      it(path .. " holds no letters that look like others, and no hidden directions", function()
        assert.is_truthy(utf8.len(body))
        for _, bytes in ipairs { "\xe2\x80[\xaa-\xae]", "\xe2\x81[\xa6-\xa9]", "\xef\xbb\xbf" } do
          assert.is_nil(body:find(bytes)) -- U+202A..202E, U+2066..2069, U+FEFF
        end
      end)
    end
  end
end)

describe("the top level", function()
  it("is fixed", function()
    local allowed = {}
    for name in ("CMakeLists.txt README.md kernels runtime lua recipes tests examples"):gmatch "%S+" do allowed[name] = true end
    for _, path in ipairs(sources "") do
      local top = path:match("^[^/]+")
      assert.is_true(allowed[top] or top:sub(1, 1) == ".", top .. " is not part of the layout")
    end
  end)
end)

describe("the library", function()
  local forbidden = {}
  for name in ([[abort exit _exit quick_exit printf puts putchar vprintf perror __assert_fail __printf_chk __vprintf_chk
    sprintf __sprintf_chk strcpy strcat gets system signal sigaction setlocale fork]]):gmatch "%S+" do forbidden[name] = true end

  it("ends no process, prints nothing, installs no handlers", function()
    if process.sanitized() then return end
    local r = process.run("nm -A --undefined-only " .. process.quote(process.build .. "/libwane.a"))
    assert.equal(0, r.code, r.err)
    assert.matches("malloc", r.out) -- nm did see what is used
    for file, name in r.out:gmatch "([^:]+%.o):%s+U ([%w_]+)" do
      assert.is_nil(forbidden[name], ("%s uses %s"):format(file, name))
    end
  end)

  it("holds no state of its own that can change", function()
    if process.sanitized() then return end
    local r = process.run("nm -A -f sysv --defined-only " .. process.quote(process.build .. "/libwane.a"))
    assert.matches("%.rodata", r.out)
    for line in r.out:gmatch "[^\n]+" do
      local section = line:match "|([^|]*)$" or ""
      local changes = section:find "^%.data" and not section:find "^%.data%.rel%.ro" or section:find "^%.[tb]?bss"
        or section:find "^%.tdata" or section:find "COM"
      assert.is_falsy(changes, line)
    end
  end)

  it("shows the world wane.h and nothing else", function()
    local shown = {}
    for name in process.run("nm -D --defined-only " .. process.quote(process.build .. "/libwane.so")).out:gmatch " [TDBRVW] ([%w_]+)" do
      shown[#shown + 1] = name
    end
    assert.is_true(#shown >= 9)
    local header = core.files.read "runtime/wane.h"
    for _, name in ipairs(shown) do
      if not (process.sanitized() and name:find("^_")) then
        assert.is_truthy(header:find(name .. "(", 1, true), name .. " is exported")
      end
    end
    local module = process.run("nm -D --defined-only " .. process.quote(process.build .. "/module/wane.so"))
    for name in module.out:gmatch " T ([%w_]+)" do
      assert.is_true(name == "luaopen_wane" or name:find("^_") ~= nil, name .. " is exported by wane.so")
    end
  end)

  it("calls Lua from nowhere below the bindings", function()
    if process.sanitized() then return end
    for file, name in process.run("nm -A --undefined-only " .. process.quote(process.build .. "/libwane.a")).out
      :gmatch "([^:]+%.o):%s+U (luaL?_[%w_]+)" do
      local path = file:match("([%w_]+)%.c%.o$")
      local is_below = core.files.kind("runtime/bind/" .. path .. ".c") ~= "file" and path ~= "host"
      assert.is_false(is_below, ("%s calls %s"):format(file, name))
    end
  end)
end)
