-- The ways in: the program with its signals, a stock lua5.4, the installed library, a program that embeds it.
local core = require "wane.core"
local process = require "support.process"

local quote = process.quote

describe("a signal", function()
  -- wane runs code, and soon gets a signal
  local function stopped(code, signal)
    local kill = ("os.execute(('(sleep 0.1; kill -%s %%d) >/dev/null 2>&1 &'):format(%s)) "):format(signal,
      "require('wane.core').system.machine().pid")
    return process.run_wane { "-e", kill .. code }
  end

  for _, signal in ipairs { "TERM", "HUP", "USR1" } do
    it(signal .. " ends Lua with 75 and one line", function()
      local r = stopped("while true do pcall(function() while true do end end) end", signal)
      assert.same({ 75, "wane: interrupted\n", "" }, { r.code, r.err, r.out })
    end)
  end

  it("lets __close have its say", function()
    local r = stopped("local c <close> = setmetatable({}, { __close = function() print 'closed' end }) while true do end", "TERM")
    assert.equal("closed\n", r.out)
    assert.equal(75, r.code)
  end)

  it("that came while a script waits for a child ends the script", function()
    assert.equal(75, stopped("os.execute('sleep 1') while true do end", "TERM").code)
  end)

  it("that the caller ignores stays ignored", function()
    local code = quote "local t = os.time() while os.time() < t + 2 do end print(1)"
    local r = process.run(("trap '' HUP; %s -e %s & sleep 0.3; kill -HUP $!; wait $!"):format(quote(process.wane), code))
    assert.equal("1\n", r.out)
  end)
end)

describe("the program starts", function()
  local function starts(before)
    local r = process.run_wane({ "-e", "print(require('wane').device { name = 'cpu' }.name)" }, "", before)
    assert.same({ out = "cpu\n", err = "", code = 0 }, r)
  end

  it("with an empty environment", function() starts "env -i" end)
  it("in a locale that writes 0,5", function() starts "env LC_ALL=de_DE.UTF-8" end)
  it("with few files to open", function() starts "ulimit -n 32;" end)
  it("in a folder that is gone", function() starts "mkdir gone.$$ && cd gone.$$ && rmdir ../gone.$$;" end)

  it("and finds the developer's Lua where it is told to", function()
    local dir = process.folder()
    core.files.mkdir(dir .. "/wane")
    core.files.write(dir .. "/wane/mine.lua", "return 'mine ' .. ...")
    local r = process.run_wane({ "-e", "local wane = require 'wane' print(wane.mine, wane.json.null ~= nil)" }, "",
      "env WANE_LUA=" .. dir)
    assert.equal("mine wane.mine\ttrue\n", r.out, r.err)
    core.files.remove(dir)
  end)
end)

describe("a stock lua5.4", function()
  local function lua(code)
    return process.run(("lua5.4 -e %s"):format(quote(("package.cpath = %q .. package.cpath "):format(
      process.build .. "/module/?.so;") .. code)))
  end

  it("can require wane", function()
    if process.sanitized() then return end -- a plain interpreter cannot load a module with a sanitizer in it
    local r = lua [[
      local wane = require "wane"
      assert(wane.core == require "wane.core" and wane == require "wane")
      print(wane.json.encode(wane.json.decode('{"b":[],"a":1.0}')), wane.tensor.zeros { 2, 2 }.dtype)
      print(pcall(wane.device, { nme = "cpu" }))
      local value, err = wane.try("io", wane.core.files.read, "/nowhere")
      print(value, err.code)
      print(require("lfs").attributes("/").mode, pcall == debug.getregistry()._LOADED._G.pcall, debug.gethook())]]
    assert.equal("", r.err)
    assert.equal('{"b":[],"a":1.0}\tf32\nfalse\twane.device has no option nme; did you mean name?\nnil\tio\ndirectory\ttrue\n',
      (r.out:gsub("\ttrue[^\n]*\n$", "\ttrue\n")))
  end)

  it("keeps its own pcall and hooks", function()
    if process.sanitized() then return end
    local r = lua [[local p, h = pcall, debug.sethook require "wane" print(p == pcall, h == debug.sethook, debug.gethook())]]
    assert.matches("^true\ttrue", r.out)
    assert.is_nil(r.out:find("function"))
  end)
end)

describe("what is installed", function()
  local dir, prefix

  setup(function()
    if process.sanitized() then return end
    dir = process.folder()
    prefix = dir .. "/usr"
    local r = process.run(("cmake --install %s --prefix %s"):format(quote(process.build), quote(prefix)))
    assert.equal(0, r.code, r.err)
  end)

  teardown(function() if dir then core.files.remove(dir) end end)

  local function find(name) return process.run(("find %s -name %s"):format(quote(prefix), quote(name))).out:match("[^\n]+") end

  it("is all there", function()
    if process.sanitized() then return end
    for _, name in ipairs { "wane", "libwane.so", "libwane.a", "wane.h", "wane.pc", "waneConfig.cmake",
      "waneConfigVersion.cmake", "wane.so" } do
      assert.is_truthy(find(name), name .. " is not installed")
    end
    local r = process.run(("cd / && env -i %s/bin/wane -e 'print(require(\"wane\").version)'"):format(prefix))
    assert.equal(core.version .. "\n", r.out, r.err)
  end)

  it("is found by a stock lua5.4", function()
    if process.sanitized() then return end
    local cpath = find("wane.so"):gsub("wane%.so$", "?.so")
    local r = process.run(("env LUA_CPATH_5_4='%s;;' lua5.4 -e 'print(require(\"wane\").version)'"):format(cpath))
    assert.equal(core.version .. "\n", r.out, r.err)
  end)

  -- builds examples/embed.c by a shell command and runs it
  local function embeds(build)
    local libs = find("libwane.so"):match("^(.*)/")
    local r = process.run(("export PKG_CONFIG_PATH=%s/pkgconfig LD_LIBRARY_PATH=%s && %s"):format(libs, libs, build))
    assert.equal(0, r.code, r.err .. r.out)
    r = process.run(("LD_LIBRARY_PATH=%s %s/embed"):format(libs, dir))
    assert.same({ out = "hello, cpu\t1 GiB\n", err = "", code = 0 }, r)
    r = process.run(("LD_LIBRARY_PATH=%s %s/embed no.lua"):format(libs, dir))
    assert.equal(6, r.code)
    assert.matches("^embed: cannot open no%.lua", r.err)
    core.files.remove(dir .. "/embed")
  end

  it("embeds through pkg-config", function()
    if process.sanitized() then return end
    embeds(("cc -Wall -Wextra -Werror examples/embed.c $(pkg-config --cflags --libs wane lua5.4) -o %s/embed"):format(dir))
  end)

  it("embeds through pkg-config as a static library", function()
    if process.sanitized() then return end
    embeds(("cc -Wall -Wextra -Werror examples/embed.c $(pkg-config --cflags wane lua5.4) %s $(pkg-config --libs lua5.4 "
      .. "$(pkg-config --print-requires-private wane)) -fopenmp -lm -o %s/embed"):format(quote(find "libwane.a"), dir))
  end)

  it("embeds through CMake", function()
    if process.sanitized() then return end
    core.files.mkdir(dir .. "/project")
    core.files.write(dir .. "/project/CMakeLists.txt", ([[
cmake_minimum_required(VERSION 3.25)
project(embed LANGUAGES C)
find_package(wane 0.1 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LUA REQUIRED IMPORTED_TARGET lua5.4)
add_executable(embed %s/examples/embed.c)
target_link_libraries(embed PRIVATE wane::wane PkgConfig::LUA)
]]):format(process.run("pwd").out:match("[^\n]+")))
    embeds(("cmake -S %s/project -B %s/project/build -DCMAKE_PREFIX_PATH=%s && cmake --build %s/project/build && "
      .. "mv %s/project/build/embed %s/embed"):format(dir, dir, prefix, dir, dir, dir))
  end)

  it("asks for C++ no differently", function()
    if process.sanitized() then return end
    local r = process.run(("echo '#include <wane.h>' | cc -Wall -Wextra -Werror -std=c99 -pedantic -x c -fsyntax-only -I%s -")
      :format(quote(find("wane.h"):match("^(.*)/"))))
    assert.equal(0, r.code, r.err)
  end)
end)
