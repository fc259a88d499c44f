-- families.lua: the tiny checkpoints of tests/reference/families.* as folders, as they are or with something changed.
local wane = require "wane"
local core = wane.core
local lfs = require "lfs"

local families = {}

local FILE <const> = "tests/reference/families"
local known = core.json.decode(core.files.read(FILE .. ".json"))

--- Names as FAMILY.DTYPE, sorted.
function families.names()
  local names = {}
  for name in pairs(known.families) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- A folder of its own, gone when its variable is closed.
function families.folder()
  local path = os.tmpname()
  os.remove(path)
  assert(lfs.mkdir(path))
  return setmetatable({ path = path }, { __close = function() core.files.remove(path) end })
end

--- A folder with config.json and model.safetensors.
-- @param name as of names()
-- @param change { config = f(table), tensors = f({ name = tensor }) } change what is written
function families.make(name, change)
  change = change or {}
  local config, tensors = core.json.decode(core.json.encode(known.families[name].config)), {}
  local prefix = name .. "/"
  for _, entry in ipairs(wane.tensor.entries(FILE .. ".safetensors")) do
    if entry.name:sub(1, #prefix) == prefix then
      tensors[entry.name:sub(#prefix + 1)] = wane.tensor.load(FILE .. ".safetensors", entry.name)
    end
  end
  if change.config then change.config(config) end
  if change.tensors then change.tensors(tensors) end
  local folder = families.folder()
  core.files.write(folder.path .. "/config.json", core.json.encode(config, { indent = 2 }))
  wane.tensor.save(folder.path .. "/model.safetensors", tensors)
  return folder
end

return families
