--- The command line: wane FILE, wane -e CODE, and the commands, one module each in lua/wane/commands.
-- A command is { summary, arguments, options, json, run }: arguments are words, { name, doc, many, optional } each;
-- options is an option table, whose entries become flags; json adds --json; run takes one table of all of these and
-- gives an exit code. With raw, run takes the list of arguments as it is, and help is a text.
local core = require "wane.core"
local failure = require "wane.failure"
local modules = require "wane.modules"
local options = require "wane.options"

local cli = {}

local USAGE = [[
wane makes a large language model small and proves what that cost.

Usage: wane                        the prompt; ?name for help
       wane FILE [arguments]       run a recipe (- reads it from stdin)
       wane -e CODE [arguments]    run a line of Lua
       wane COMMAND [flags]        one of the commands below; wane COMMAND --help tells more
       wane --help | --version

]]

local EXITS = [[

Exit codes: 0 done, 1 an error in a recipe, 2 usage, 3 input refused, 4 out of memory, 5 numeric failure,
6 file system, 7 device, 8 quality gate failed, 9 partly done, 10 network, 75 interrupted: run it again.]]

local function usage_error(message) options.fail { code = "usage", message = message } end

-- Runs f(...) and tells on stderr what went wrong; gives the exit code.
local function protect(terse, f, ...)
  local ok, value = xpcall(f, core.traceback, ...)
  if ok then
    local code = math.tointeger(value)
    return code and code >= 0 and code <= 255 and code or 0
  end
  if getmetatable(value) == core.error and value.code == "help" then
    print(value.message)
    return 0
  end
  io.stderr:write("wane: ", failure.text(value, terse), "\n")
  return core.exit_code(value)
end

--- Names of the commands, sorted.
function cli.commands()
  local names = {}
  for i, module in ipairs(modules.list "wane.commands") do names[i] = module:match("[^.]+$") end
  return names
end

--- A command by its name.
function cli.command(name) return require("wane.commands." .. name) end

--- What wane --help says.
function cli.usage()
  local lines = { "Commands:" }
  for _, name in ipairs(cli.commands()) do
    local ok, command = pcall(cli.command, name) -- one that is broken must not hide the others
    lines[#lines + 1] = ("  %-12s %s"):format(name, ok and command.summary or "cannot be loaded")
  end
  return USAGE .. table.concat(lines, "\n") .. "\n" .. EXITS
end

local function absolute(list)
  local kept = {}
  for entry in list:gmatch "[^;]+" do
    if entry:sub(1, 1) == "/" then kept[#kept + 1] = entry end
  end
  return table.concat(kept, ";")
end

-- argparse as it is installed: the folder that wane stands in may be a checkpoint's, of which nothing is ever run.
local function argparse()
  local path, cpath = package.path, package.cpath
  package.path, package.cpath = absolute(path), absolute(cpath)
  local ok, library = pcall(require, "argparse")
  package.path, package.cpath = path, cpath
  if ok then return library end
  usage_error("the commands need lua-argparse: apt-get install lua-argparse (wane FILE and wane -e go without it)")
end

-- --name and --no-name; help shows the one that changes what is so by itself
local function add_switch(parser, entry)
  local dashed = entry.name:gsub("_", "-")
  local shown = options.flag(entry)
  for flag, action in pairs { ["--" .. dashed] = "store_true", ["--no-" .. dashed] = "store_false" } do
    parser:flag(flag, options.sentence(entry)):target(entry.name):action(action):hidden(flag ~= shown)
  end
end

--- Gives a parser of argparse's the words and flags of a command.
function cli.fill(parser, command)
  for _, word in ipairs(command.arguments or {}) do
    parser:argument(word.name, word.doc):args(word.many and "+" or word.optional and "?" or 1)
  end
  for _, entry in ipairs(command.options or {}) do
    if entry.kind == "boolean" then
      add_switch(parser, entry)
    elseif options.is_flag(entry) then
      local flag = parser:option(options.flag(entry), options.sentence(entry)):target(entry.name)
        :argname(options.placeholder(entry)):convert(function(text) return options.parse(entry, text) end)
      if entry.kind == "one of" then flag:argname(table.concat(entry.choices, "|")) end
    end
  end
  if command.json then parser:flag("--json", "the result as JSON on stdout") end
  return parser
end

local function parser_of(name, command)
  local parser = argparse()("wane " .. name, command.summary):add_help(false)
  return cli.fill(parser, command)
end

--- What wane COMMAND --help says.
function cli.help(name)
  local command = cli.command(name)
  if command.raw then return command.help end
  return (parser_of(name, command):get_help():gsub("%s+$", ""))
end

local function asks_for_help(arguments)
  for _, text in ipairs(arguments) do
    if text == "--" then return false end
    if text == "--help" or text == "-h" then return true end
  end
end

-- What a variable of a shell that is not set leaves of a word.
local function refuse_empty(name, entries, found, shown)
  for _, entry in ipairs(entries) do
    if found[entry.name] == "" then usage_error(("%s: %s is an empty text"):format(name, shown(entry))) end
  end
end

local function run_command(name, arguments)
  local command = cli.command(name)
  if command.raw then
    local first = arguments[1]
    if first == "--help" or first == "-h" then return print(command.help) end
    return command.run(arguments)
  end
  local parser = parser_of(name, command)
  if asks_for_help(arguments) then return print(cli.help(name)) end
  local ok, found = parser:pparse(arguments)
  if not ok then
    usage_error(("%s: %s\nsee wane %s --help"):format(name, found:gsub("\n", ". "), name))
  end
  local given, spec = {}, command.options or {}
  refuse_empty(name, command.arguments or {}, found, function(word) return word.name end)
  refuse_empty(name, spec, found, options.flag)
  for _, entry in ipairs(spec) do
    given[entry.name] = found[entry.name]
    if entry.required and found[entry.name] == nil then
      usage_error(("%s needs %s: %s\nsee wane %s --help"):format(name, options.flag(entry), entry.doc, name))
    end
  end
  local o = options.check(spec, given, "wane " .. name)
  for _, word in ipairs(command.arguments or {}) do o[word.name] = found[word.name] end
  o.json = found.json
  return command.run(o)
end

local function run_chunk(chunk, wrong, name, arguments)
  if not chunk then error(wrong, 0) end
  _G.arg = table.move(arguments, 1, #arguments, 1, { [0] = name })
  return chunk(table.unpack(arguments))
end

--- Runs a recipe with its arguments; what it returns is its exit code, where that is one.
function cli.script(file, arguments)
  if file == "-" then
    local chunk, wrong = load(io.read("a") or "", "=stdin", "t")
    return run_chunk(chunk, wrong, file, arguments)
  end
  if core.files.kind(file) ~= "file" and core.files.kind(file) ~= "other" then
    options.fail { code = "io", path = file, traceback = "", message = ("cannot read %s: %s"):format(file,
      core.files.kind(file) and "it is a directory"
        or "there is no such file" .. require "wane.paths".hint(file)) }
  end
  local chunk, wrong = loadfile(file, "t")
  return run_chunk(chunk, wrong, file, arguments)
end

local function unknown(word)
  local known = cli.commands()
  if word:sub(1, 1) == "-" then known = { "--help", "--version", "-e" } end
  local meant = core.options.nearest(word, known)
  usage_error(("there is no %s called %s%s"):format(word:sub(1, 1) == "-" and "flag" or "command or file", word,
    meant and ("; did you mean %s?"):format(meant) or "; see wane --help"))
end

local function is_command(word) return word:find("^%l[%l_]*$") and modules.exists("wane.commands." .. word) end

--- Does what the arguments say; gives the exit code.
function cli.main(...)
  local arguments = { ... }
  local first = arguments[1]
  local rest = table.move(arguments, 2, #arguments, 1, {})
  if not first then return require("wane.repl").run() end
  if first == "--version" or first == "-v" then return print("wane " .. core.version) end
  if first == "--help" or first == "-h" then return protect(true, function() print(cli.usage()) end) end
  if first == "-e" then
    if not rest[1] then return protect(true, usage_error, "-e needs a line of Lua") end
    local code = table.remove(rest, 1)
    return protect(false, function()
      local chunk, wrong = load(code, "=(command line)", "t")
      return run_chunk(chunk, wrong, "-e", rest)
    end)
  end
  if is_command(first) then return protect(first ~= "run", run_command, first, rest) end
  if first == "-" or first:find("%.lua$") or core.files.kind(first) == "file" then
    return protect(false, cli.script, first, rest)
  end
  return protect(true, unknown, first)
end

return cli
