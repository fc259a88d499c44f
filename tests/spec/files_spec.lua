-- core.files and core.system: whole files or nothing, journals, folders, locks, hashes; progress and talk.
local core = require "wane.core"
local process = require "support.process"
local progress = require "wane.progress"

local files = core.files
local fails = require "support.raises"

describe("files", function()
  local dir
  before_each(function() dir = process.folder() end)
  after_each(function() files.remove(dir) end)

  it("are written whole and read back", function()
    local text = ("\0\1\255 é\r\n"):rep(1000)
    files.write(dir .. "/a", text)
    assert.equal(text, files.read(dir .. "/a"))
    files.write(dir .. "/a", "")
    assert.equal("", files.read(dir .. "/a"))
    assert.same({ "a" }, files.list(dir)) -- no temporary name is left
    assert.same({ "file", 0 }, { files.kind(dir .. "/a") })
    assert.equal(0, files.size(dir .. "/a"))
  end)

  it("are refused where they are larger than asked for", function()
    files.write(dir .. "/a", "12345")
    assert.equal("12345", files.read(dir .. "/a", 5))
    fails("format", files.read, dir .. "/a", 4)
  end)

  it("keep what was there where writing fails", function()
    if process.sanitized() or process.run("id -u").out ~= "0\n" then return end -- mounting takes root
    local r = process.run(("unshare -m sh -c %s"):format(process.quote(([[
      mount -t tmpfs -o size=64k none %s && printf old > %s/a && %s -e '
        local files = require("wane.core").files
        local ok, err = pcall(files.write, "%s/a", ("x"):rep(1 << 20))
        print(ok, err.code, files.read("%s/a"), #files.list("%s"))']]):format(dir, dir, process.wane, dir, dir, dir))))
    if r.code ~= 0 then return end -- no right to mount here
    assert.equal("false\tio\told\t1\n", r.out, r.err)
  end)

  it("that are not there are an error with their name", function()
    local err = fails("io", files.read, dir .. "/absent")
    assert.equal(dir .. "/absent", err.path)
    fails("io", files.size, dir .. "/absent")
    fails("io", files.list, dir .. "/absent")
    fails("io", files.sha256_file, dir .. "/absent")
    fails("io", files.write, dir .. "/absent/a", "x")
    assert.is_nil((files.kind(dir .. "/absent")))
  end)

  it("have names without zero bytes", function()
    for _, f in ipairs { files.read, files.kind, files.mkdir, files.remove, files.list } do
      assert.error_matches(function() f "a\0b" end, "without zero bytes")
      if f ~= files.kind then assert.error_matches(function() f "" end, "without zero bytes") end
    end
    assert.is_nil((files.kind ""))
  end)

  it("may have any other name", function()
    for _, name in ipairs { "a b", "-x", "new\nline", "\xff\xfe", "~", "é" } do
      files.write(dir .. "/" .. name, name)
      assert.equal(name, files.read(dir .. "/" .. name))
    end
  end)

  it("are appended to line by line, also after half a line", function()
    local path = dir .. "/journal"
    files.append(path, "one")
    files.append(path, "two")
    assert.equal("one\ntwo\n", files.read(path))
    files.write(path, "one\ntw")
    files.append(path, "three")
    assert.equal("one\ntw\nthree\n", files.read(path))
    assert.error_matches(function() files.append(path, "a\nb") end, "one line")
    fails("io", files.append, dir, "x")
    if files.kind "/dev/full" then fails("io", files.append, "/dev/full", "x") end
  end)

  it("lie in folders that are made with their parents", function()
    files.mkdir(dir .. "/a/b/c")
    files.mkdir(dir .. "/a/b/c")
    assert.equal("directory", (files.kind(dir .. "/a/b/c")))
    files.write(dir .. "/file", "")
    fails("io", files.mkdir, dir .. "/file/x")
  end)

  it("are removed with all in them, and links are not followed", function()
    files.mkdir(dir .. "/a/b")
    files.write(dir .. "/a/b/x", "x")
    files.write(dir .. "/kept", "kept")
    assert(require("lfs").link(dir .. "/kept", dir .. "/a/link", true))
    assert(require("lfs").link(dir, dir .. "/a/b/up", true))
    assert.is_true(files.remove(dir .. "/a"))
    assert.same({ "kept" }, files.list(dir))
    assert.is_false(files.remove(dir .. "/a"))
    assert(require("lfs").link(dir, dir .. "/self", true))
    assert.is_true(files.remove(dir .. "/self"))
    assert.same({ "kept" }, files.list(dir))
  end)

  it("are renamed, never over another", function()
    files.write(dir .. "/a", "a")
    files.write(dir .. "/b", "b")
    fails("io", files.rename, dir .. "/a", dir .. "/b")
    assert.equal("b", files.read(dir .. "/b"))
    files.rename(dir .. "/a", dir .. "/c")
    assert.same({ "b", "c" }, files.list(dir))
  end)

  it("are listed in order", function()
    for _, name in ipairs { "b", "a", "B", "10", "9", ".hidden" } do files.write(dir .. "/" .. name, "") end
    assert.same({ ".hidden", "10", "9", "B", "a", "b" }, files.list(dir))
  end)

  it("have their hash", function()
    local empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert.equal(empty, files.sha256 "")
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", files.sha256 "abc")
    local text = ("wane"):rep(1 << 19) -- more than is read at once
    files.write(dir .. "/a", text)
    assert.equal(files.sha256(text), files.sha256_file(dir .. "/a"))
    assert.equal(process.run("sha256sum < " .. dir .. "/a").out:match "%x+", files.sha256(text))
  end)

  it("stop being hashed when asked to", function()
    files.write(dir .. "/a", "x")
    core.device.interrupt(true)
    local ok, err = pcall(files.sha256_file, dir .. "/a")
    core.device.interrupt(false)
    assert.is_false(ok)
    assert.equal("interrupted", err.code)
  end)

  it("are locked by one at a time", function()
    local lock <close> = files.lock(dir)
    local err = fails("io", files.lock, dir)
    assert.matches("in use by", err.message)
    assert.is_truthy(lock)
  end)

  it("are free again once the lock is closed, twice or not", function()
    local lock = files.lock(dir)
    lock:close()
    lock:close()
    do local again <close> = files.lock(dir) assert.is_truthy(again) end
    local _ = files.lock(dir)
    _ = nil -- luacheck: ignore
    collectgarbage()
    files.lock(dir):close()
  end)
end)

describe("the system", function()
  it("has a clock that goes forward, a machine and a disk", function()
    local before = core.clock()
    assert.is_true(core.clock() >= before)
    local machine = core.system.machine()
    assert.is_true(machine.processors >= 1 and machine.memory > machine.memory_free and machine.memory_free > 0)
    assert.matches("OpenBLAS", machine.blas)
    assert.is_true(core.system.disk_free "/" > 0)
    assert.is_nil(core.system.disk_free "/nowhere")
  end)

  it("tells terminals from other things", function()
    local r = process.run_wane({ "-e",
      'local s = require("wane.core").system print(s.terminal "stdin", s.terminal "stderr", s.width "stdout")' })
    assert.equal("false\tfalse\t80\n", r.out)
    assert.error_matches(function() core.system.terminal "stdlog" end, "invalid option")
  end)
end)

describe("progress", function()
  it("says seconds as people do", function()
    assert.equal("8 s", progress.seconds(8.4))
    assert.equal("3:05 min", progress.seconds(185))
    assert.equal("2:10 h", progress.seconds(7800))
  end)

  it("talks on stderr, and shows control characters", function()
    local r = process.run_wane { "-e", 'require("wane").progress.say("a\\27[31m")' }
    assert.same({ out = "", err = "a\\x1b[31m\n", code = 0 }, r)
  end)

  it("draws no bar where nobody looks", function()
    local r = process.run_wane { "-e", 'local b = require("wane").progress.bar "x" for i = 1, 9 do b(i, 9, "y") end' }
    assert.same({ out = "", err = "", code = 0 }, r)
  end)

  it("draws one on a terminal, and takes it away", function()
    local r = process.run(("timeout 20 python3 tests/support/terminal.py %s -e %s"):format(process.quote(process.wane),
      process.quote 'local b = require("wane").progress.bar "work" b(1, 4, "first") b(4, 4) print "done"'),
      "expect work 1/4, .* left first\nexpect done\ngone 0\n")
    assert.equal(0, r.code, r.out)
  end)
end)
