--- The command line.
local cli = {}

--- Runs one command; gives the exit code.
function cli.main(...)
  local arguments = { ... }
  if arguments[1] == "-e" then
    assert(load(arguments[2], "=(command line)", "t"))()
    return 0
  end
  local script = arguments[1]
  if not script then return 2 end
  _G.arg = { [0] = script, table.unpack(arguments, 2) }
  assert(loadfile(script, "t"))(table.unpack(arguments, 2))
  return 0
end

return cli
