--- Which Lua modules wane is made of: those in the library, and those of the developer's folder ($WANE_LUA).
local core = require "wane.core"

local modules = {}

-- modules under dir/wane, as names
local function scan(dir, prefix, found)
  if core.files.kind(dir) ~= "directory" then return end
  for _, name in ipairs(core.files.list(dir)) do
    local module = name:match("^(.+)%.lua$")
    if module == "init" then
      found[prefix] = true
    elseif module then
      found[prefix .. "." .. module] = true
    elseif core.files.kind(dir .. "/" .. name) == "directory" then
      scan(dir .. "/" .. name, prefix .. "." .. name, found)
    end
  end
end

--- Names of the modules that begin with prefix and go one level deeper, sorted: list "wane.commands".
function modules.list(prefix)
  local names, folder = core.embedded.list()
  local found, out = {}, {}
  for _, name in ipairs(names) do found[name] = true end
  if folder then scan(folder .. "/wane", "wane", found) end
  for name in pairs(found) do
    local tail = name:sub(1, #prefix + 1) == prefix .. "." and name:sub(#prefix + 2)
    if tail and not tail:find(".", 1, true) then out[#out + 1] = name end
  end
  table.sort(out)
  return out
end

--- The text of a module and its file; nothing where there is no such module.
function modules.source(name) return core.source(name) end

--- Whether there is such a module.
function modules.exists(name) return core.source(name) ~= nil end

return modules
