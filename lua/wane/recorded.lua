--- Hashes that others recorded of a model's files, and whether the files are still so.
-- Three places are read: the links of the Hub's cache (snapshots/REVISION/NAME -> ../../blobs/HASH), what the Hub's own
-- client keeps beside a folder it filled (.cache/huggingface/download/NAME.metadata: revision, hash, time), and
-- SHA256SUMS as sha256sum writes it. 64 digits are SHA-256; 40 are git's SHA-1 of a blob, which the Hub has of files
-- that are not large. None of it says where a file came from, only that it is as it was when it was recorded.
local core = require "wane.core"
local fingerprint = require "wane.fingerprint"

local recorded = {}

recorded.HINT = "no link of the Hub's cache, no .cache/huggingface, no SHA256SUMS; "
  .. "(cd DIR && sha256sum * > SHA256SUMS) records the files as they are"

local SUMS <const> = "SHA256SUMS"
local MOST <const> = 16 << 20 -- bytes of a list

local function is_hash(text)
  return text ~= nil and (#text == 64 or #text == 40) and text:find("^%x+$") ~= nil
end

local function from_link(dir, name)
  local target = core.check.link(dir .. "/" .. name)
  local hash = target and target:match "^%.%./%.%./blobs/(%x+)$"
  return is_hash(hash) and hash:lower() or nil
end

local function from_metadata(dir, name)
  local path = ("%s/.cache/huggingface/download/%s.metadata"):format(dir, name)
  if core.files.kind(path) ~= "file" then return nil end
  local hash = core.files.read(path, MOST):match "^[^\n]*\n([^\n]*)"
  hash = hash and hash:match '^%s*"?(%x+)"?%s*$'
  return is_hash(hash) and hash:lower() or nil
end

-- name -> hash of SHA256SUMS, and what is wrong with it
local function read_sums(dir)
  local path, sums, problems = dir .. "/" .. SUMS, {}, {}
  if core.files.kind(path) ~= "file" then return sums, problems, false end
  local number = 0
  for line in (core.files.read(path, MOST) .. "\n"):gmatch "(.-)\r?\n" do
    number = number + 1
    local hash, name = line:match "^(%x+)[ \t][ *](.+)$"
    if hash and #hash == 64 then
      sums[name:gsub("^%./", "")] = hash:lower()
    elseif line:find "%S" then
      problems[#problems + 1] = { code = "format", path = path,
                                  message = ("%s:%d: not a line of sha256sum"):format(fingerprint.shown(path), number) }
    end
  end
  return sums, problems, true
end

local FIXES <const> = {
  [SUMS] = "make or copy it again; where it was meant to change, write SHA256SUMS anew",
}

local function differs(found, path, name, hash, is, source)
  found.problems[#found.problems + 1] = {
    code = "format", path = path,
    message = ("%s: its hash is %s; %s was recorded of %s: %s"):format(fingerprint.shown(path), is, hash,
      fingerprint.shown(name), FIXES[source] or "fetch it again with wane get"),
  }
end

--- Compares every file of a folder with what was recorded of it.
-- @param dir string
-- @return { compared = files that are as recorded, problems, unknown = names of which nothing is recorded, source }
-- @error io, interrupted
function recorded.verify(dir)
  local found = { compared = 0, unknown = core.json.array {} }
  local sums, problems, has_sums = read_sums(dir)
  local seen, sources = {}, {}
  found.problems = problems
  for _, name in ipairs(core.files.list(dir)) do
    local path = dir .. "/" .. name
    seen[name] = true
    if name ~= SUMS and core.files.kind(path) == "file" then
      local hash, source = from_link(dir, name), "the Hub's cache"
      if not hash then hash, source = sums[name], SUMS end
      if not hash then hash, source = from_metadata(dir, name), "the Hub's record" end
      if hash then
        local is = #hash == 64 and core.files.sha256_file(path) or core.check.git_hash(path)
        if is == hash then
          found.compared = found.compared + 1
        else
          differs(found, path, name, hash, is, source)
        end
        if not sources[source] then sources[#sources + 1], sources[source] = source, true end
      else
        found.unknown[#found.unknown + 1] = fingerprint.shown(name)
      end
    end
  end
  for name in pairs(has_sums and sums or {}) do
    if not seen[name] and not name:find("/", 1, true) then
      found.problems[#found.problems + 1] = { code = "format", path = dir .. "/" .. name, message =
        ("%s: is in %s and not in the folder"):format(fingerprint.shown(dir .. "/" .. name), SUMS) }
    end
  end
  table.sort(found.problems, function(a, b) return a.message < b.message end)
  found.source = table.concat(sources, " and ")
  return found
end

return recorded
