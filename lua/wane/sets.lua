--- The files of a set of records: one file, or the shards that a folder or a pattern names.
-- A folder is one as the Hub keeps data sets, data/train-00000-of-00003.parquet and data/test-00000-of-00001.parquet:
-- its files, or those in its folder data, or in its only folder, of the first ending below that any has. What stands
-- before the number is the split; of several splits the preferred one is taken, or none. All shards must be there.
local core = require "wane.core"
local fingerprint = require "wane.fingerprint"
local options = require "wane.options"
local paths = require "wane.paths"

local sets = {}

local ENDINGS <const> = { "parquet", "jsonl", "ndjson", "json", "txt" }
local ABOUT <const> = { ["dataset_info.json"] = true, ["dataset_infos.json"] = true, ["state.json"] = true }

local function refuse(code, path, format, ...)
  options.fail { code = code, op = "records", path = path, message = format:format(fingerprint.shown(path), ...) }
end

-- A pattern of a shell for one name, as Lua's: * and ? stand for what they stand for there.
local function pattern_of(text)
  return "^" .. text:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".") .. "$"
end

-- the paths that a pattern matches, part by part, sorted
local function expand(path)
  local found = { path:sub(1, 1) == "/" and "/" or "" }
  for part in path:gmatch "[^/]+" do
    local pattern, longer = part:find "[*?]" and pattern_of(part), {}
    for _, folder in ipairs(found) do
      if not pattern then
        longer[#longer + 1] = folder .. part .. "/"
      elseif folder == "" or core.files.kind(folder) == "directory" then
        for _, name in ipairs(core.files.list(folder == "" and "." or folder)) do
          if name:find(pattern) and (name:sub(1, 1) ~= "." or part:sub(1, 1) == ".") then
            longer[#longer + 1] = folder .. name .. "/"
          end
        end
      end
    end
    found = longer
  end
  local files = {}
  for _, name in ipairs(found) do
    name = name:gsub("/$", "")
    if core.files.kind(name) == "file" then files[#files + 1] = name end
  end
  return files
end

-- "train-00001-of-00003.parquet" -> "train", 1, 3; "train.parquet" and "train-7.parquet" -> "train"
local function split_of(name)
  local split, number, of = name:match "^(.-)%-(%d%d%d%d%d)%-of%-(%d%d%d%d%d)"
  if split then return split, math.tointeger(number), math.tointeger(of) end
  local stem = name:gsub("%.%w+$", "")
  return stem:find "^%d+$" and "" or (stem:gsub("[-_.]%d+$", ""))
end

-- Every shard that the names speak of is among them.
local function check_whole(dir, names)
  local have, of_split = {}, {}
  for _, name in ipairs(names) do
    local split, number, of = split_of(name)
    if of then
      have[("%s %d %d"):format(split, of, number)] = true
      of_split[split] = of
    end
  end
  for split, of in pairs(of_split) do
    for number = 0, of - 1 do
      if not have[("%s %d %d"):format(split, of, number)] then
        refuse("io", dir, "%s: shard %s-%05d-of-%05d is not there; fetch it, or name the files that are: '%s/%s-*'",
          split, number, of, fingerprint.shown(dir), split)
      end
    end
  end
end

-- names of a folder's files of a set, and of its folders
local function look_into(dir)
  local by_ending, folders = {}, {}
  for _, name in ipairs(core.files.list(dir)) do
    local kind, ending = core.files.kind(dir .. "/" .. name), name:match "%.(%w+)$"
    if name:sub(1, 1) == "." or ABOUT[name] then kind = nil end
    if kind == "directory" then folders[#folders + 1] = name end
    if kind == "file" and ending then
      by_ending[ending] = by_ending[ending] or {}
      table.insert(by_ending[ending], name)
    end
  end
  for _, ending in ipairs(ENDINGS) do
    if by_ending[ending] then return by_ending[ending], folders end
  end
  return {}, folders
end

-- the names of the one split that is meant
local function choose(dir, names, prefer)
  local splits, order = {}, {}
  for _, name in ipairs(names) do
    local split = split_of(name)
    if not splits[split] then
      splits[split], order[#order + 1] = {}, split
    end
    table.insert(splits[split], name)
  end
  if #order == 1 then return names end
  for _, split in ipairs(prefer) do
    if splits[split] then return splits[split] end
  end
  return refuse("format", dir, "%s holds several sets (%s); name one of them: '%s/%s*'", table.concat(order, ", "),
    fingerprint.shown(dir), order[1])
end

local function of_folder(dir, prefer, depth)
  local names, folders = look_into(dir)
  if not names[1] then
    local inner = #folders == 1 and folders[1] or core.files.kind(dir .. "/data") == "directory" and "data"
    if inner and depth < 3 then return of_folder(dir .. "/" .. inner, prefer, depth + 1) end
    if folders[2] then refuse("format", dir, "%s: name one of its folders: %s", table.concat(folders, ", ")) end
    refuse("format", dir, "%s: there is no file in it that ends in .parquet, .jsonl, .json or .txt")
  end
  names = choose(dir, names, prefer)
  check_whole(dir, names)
  for i, name in ipairs(names) do names[i] = dir .. "/" .. name end
  return names
end

--- The files that a path names: itself, a folder's, or those that a pattern with * or ? matches; sorted.
-- @param prefer list of splits, the first that a folder has is taken where it has several
-- @return string[]
-- @error io (not there, a shard is missing), format (no set, or several)
function sets.files(path, prefer)
  local kind = core.files.kind(path)
  if kind == "directory" then return of_folder(path:gsub("(.)/+$", "%1"), prefer or {}, 0) end
  if not kind and path:find "[*?]" then
    local found = expand(path)
    if not found[1] then refuse("io", path, "%s: there is no file of such a name") end
    return found
  end
  paths.check_readable(path)
  return { path }
end

--- A hash of what the files hold: of one file its SHA-256, of several that of theirs.
function sets.hash(files)
  local list = {}
  for i, path in ipairs(files) do list[i] = core.files.sha256_file(path) end
  return list[2] and core.files.sha256(table.concat(list, "\n")) or list[1]
end

return sets
