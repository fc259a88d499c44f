--- Paths that people name: which one a misspelt one was meant to be, and whether there is a place for what is to be
-- written, asked before the work that makes it.
local core = require "wane.core"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"

local paths = {}

-- the folder that a path is in
local function parent(path) return path:match "^(.*[^/])/+[^/]*$" or path:sub(1, 1) == "/" and "/" or "." end

--- The path that is there and spelt nearly like one that is not; nil where there is none.
function paths.near(path)
  local near = path:sub(1, 1) == "/" and "/" or ""
  for part in path:gmatch "[^/]+" do
    if not core.files.kind(near .. part) then
      local ok, names = pcall(core.files.list, near == "" and "." or near)
      part = ok and core.options.nearest(part, names)
      if not part then return nil end
    end
    near = near .. part .. "/"
  end
  near = near:gsub("(.)/$", "%1")
  return near ~= "" and near or nil
end

--- "; did you mean models/lune-1m?" for a path that is not there, or "".
function paths.hint(path)
  local near = paths.near(path)
  return near and ("; did you mean %s?"):format(fingerprint.shown(near)) or ""
end

--- Refuses a file that is to be read and is not there.
-- @error io
function paths.check_readable(file)
  if core.files.kind(file) then return end
  local shown = fingerprint.shown(file)
  options.fail { code = "io", path = file,
                 message = ("cannot read %s: there is no such file%s"):format(shown, paths.hint(file)) }
end

--- Refuses a file that could not be written in the end: its folder must be there and open to us.
-- @error io
function paths.check_writable(file)
  local dir, shown = parent(file), fingerprint.shown(file)
  local function refuse(why)
    options.fail { code = "io", path = file, message = ("cannot write %s: %s"):format(shown, why) }
  end
  if core.files.kind(file) == "directory" then refuse "it is a folder; name a file in it" end
  if not core.files.kind(dir) then
    refuse(("there is no folder %s; mkdir -p '%s' makes it"):format(fingerprint.shown(dir), fingerprint.shown(dir)))
  end
  if core.files.kind(file) == "other" then return end -- a device or pipe is not replaced
  local may, why = core.files.may_write(dir)
  if not may then refuse(why) end
end

--- Refuses a folder that could not be made in the end, by the nearest one above it that is there.
-- @error io
function paths.check_makeable(dir)
  local above = parent(dir:gsub("(.)/+$", "%1"))
  while not core.files.kind(above) and above ~= parent(above) do above = parent(above) end
  local may, why = core.files.may_write(above)
  if core.files.kind(above) ~= "directory" then may, why = false, "Not a directory" end
  if may then return end
  options.fail { code = "io", path = dir, message = ("cannot make folder %s: %s: %s"):format(fingerprint.shown(dir),
    fingerprint.shown(above), why) }
end

return paths
