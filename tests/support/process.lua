-- process.lua: other processes, for specs: the wane under test, its build folder, and a way to run a command.
local process = {}

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

local function one_line(command)
  local pipe = assert(io.popen(command))
  local line = pipe:read "l"
  pipe:close()
  return line
end

-- a word of a shell command
function process.quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- the program that runs this spec
process.wane = one_line "readlink /proc/$PPID/exe"
process.build = process.wane:match("^(.*)/")

-- whether it was built with a sanitizer, which a program without one cannot load
function process.sanitized()
  local cache = io.open(process.build .. "/CMakeCache.txt")
  local text = cache and cache:read "a" or ""
  if cache then cache:close() end
  return text:find("WANE_SANITIZE:STRING=%w") ~= nil
end

-- a new empty folder
function process.folder() return one_line "mktemp -d" end

-- Runs a shell command: { out, err, code }; a signal gives 128 and its number.
function process.run(command, input)
  local dir = process.folder()
  local file = assert(io.open(dir .. "/in", "wb"))
  file:write(input or "")
  file:close()
  local _, how, code = os.execute(("{ %s\n} <%s/in >%s/out 2>%s/err"):format(command, dir, dir, dir))
  local result = { out = read(dir .. "/out"), err = read(dir .. "/err"), code = how == "signal" and 128 + code or code }
  os.execute("rm -r " .. dir)
  return result
end

-- The same for wane with a list of arguments; before: what stands before it in the command.
function process.run_wane(arguments, input, before)
  local words = { before or "timeout -k 5 60", process.quote(process.wane) }
  for _, text in ipairs(arguments) do words[#words + 1] = process.quote(text) end
  return process.run(table.concat(words, " "), input)
end

return process
