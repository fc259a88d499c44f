--- The prompt: reads Lua, runs it, prints what it gives; errors and Ctrl-C leave the state as it is.
local core = require "wane.core"
local failure = require "wane.failure"
local help = require "wane.help"
local show = require "wane.show"

local repl = {}

-- The program's editor, where this runs in the program; a host has Lua's own means.
local function editor()
  local ok, edit = pcall(require, "wane.edit")
  return ok and edit or { call = function(f, ...) return xpcall(f, core.traceback, ...) end }
end

local function width() return core.system.width "stdout" end

--- Compiles what was typed: gives a function, or nil and why not, or nil and "more" where it is unfinished.
-- An expression gives its values; with a semicolon at its end it keeps them to itself.
function repl.compile(text, name)
  name = name or "=prompt"
  local chunk = load("return " .. text, name, "t")
  if chunk then
    return text:find(";%s*$") and function() chunk() end or chunk
  end
  local statement, wrong = load(text, name, "t")
  if statement then return statement end
  if wrong:find("<eof>$") then return nil, "more" end
  return nil, wrong
end

local function print_values(ok, ...)
  if not ok then
    local err = ...
    io.stdout:flush()
    io.stderr:write(failure.text(err), "\n")
    return core.exit_code(err)
  end
  if select("#", ...) > 0 then print((show.values(width(), ...))) end
  return 0
end

local function ask_help(name, edit)
  local ok, text = edit.call(help.about, name)
  if ok then print(text) else io.stderr:write(tostring(text):gsub("\nstack traceback:.*", ""), "\n") end
  return ok and 0 or 1
end

-- Runs one whole statement; gives the exit code that a script would have.
local function run(chunk, wrong, edit)
  if not chunk then
    io.stderr:write(wrong, "\n")
    return 1
  end
  return print_values(edit.call(chunk))
end

local told
local function tell_about_locals(text)
  if told or not text:find("^%s*local%s") then return end
  told = true
  io.stderr:write("(a local ends with its line; leave out `local` to keep it)\n")
end

local function history_file()
  local state = os.getenv "XDG_STATE_HOME"
  local home = os.getenv "HOME"
  if not state or state:sub(1, 1) ~= "/" then state = home and home ~= "" and home .. "/.local/state" end
  return state and state .. "/wane/history"
end

local function open_history(edit)
  local path = history_file()
  if path and pcall(core.files.mkdir, path:match("^(.*)/")) then edit.history(path) end
end

local function banner()
  local ok, info = pcall(core.device.info)
  local device = ok and ("%s %s"):format(info.name, info.description) or tostring(info)
  if ok and info.name ~= "cpu" then device = ("%s, %s free"):format(device, core.device.format_bytes(info.free)) end
  print(("wane %s   %s   %s   ?name for help"):format(core.version, _VERSION, device))
end

local function interactive()
  local edit = editor()
  local complete = require("wane.complete").line
  open_history(edit)
  banner()
  while true do
    local text = edit.read("> ", complete)
    if text == nil then return 0 end
    if text and text:find("^%s*%?") then
      edit.add(text)
      ask_help(text:match("%?%s*(.-)%s*$"), edit)
    elseif text and text:find("%S") then
      local chunk, wrong = repl.compile(text)
      while not chunk and wrong == "more" do
        local line = edit.read(">> ", complete)
        if line == nil then return 0 end
        if not line then break end
        text = text .. "\n" .. line
        chunk, wrong = repl.compile(text)
      end
      if wrong ~= "more" then
        if not text:find("^ ") then edit.add(text) end
        run(chunk, wrong, edit)
        tell_about_locals(text)
      end
    end
  end
end

-- Input that is no terminal: the same without a banner; the first error ends it.
local function piped()
  local edit = editor()
  local text, first, number = "", 1, 0
  local chunk, wrong
  for line in io.stdin:lines("L") do
    number = number + 1
    if text == "" and line:find("^%s*%?") then
      local code = ask_help(line:match("%?%s*(.-)%s*$"), edit)
      if code ~= 0 then return code end
    else
      if text == "" then first = number end
      text = text .. line
      chunk, wrong = repl.compile(("\n"):rep(first - 1) .. text, "=stdin")
      if chunk or wrong ~= "more" then
        local code = run(chunk, wrong, edit)
        if code ~= 0 then return code end
        tell_about_locals(text)
        text = ""
      end
    end
  end
  if text:find("%S") then
    io.stderr:write("stdin ends within a statement that began in line ", first, "\n")
    return 1
  end
  return 0
end

--- Runs the prompt until its input ends; gives the exit code. wane is there as a global.
function repl.run()
  _G.wane = require "wane"
  if core.system.terminal "stdin" then return interactive() end
  return piped()
end

return repl
