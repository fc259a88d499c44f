--- What of a study is finished: a file for each cell, under the hash of all that its outcome depends on.
-- A run's folder has cells/NAME.json (the outcome), samples/NAME.jsonl (every answer) and models/NAME (the quantized
-- model). A cell counts as finished only where all of these belong together.
local core = require "wane.core"
local evaluate = require "wane.evaluate"
local json = require "wane.json"
local options = require "wane.options"
local tasks = require "wane.tasks"

local files = core.files
local ledger = {}
ledger.__index = ledger

local function hash(...) return files.sha256(table.concat({ ... }, "\n")) end

-- What a process that was killed left half written; the lock says that nobody is writing now.
local function sweep(dir)
  for _, name in ipairs(files.list(dir)) do
    if name:find("%.partial%-%d+") then files.remove(dir .. "/" .. name) end
  end
end

--- Opens a run's folder, makes it where it is not there, and holds its lock until it is closed.
-- @error io, naming the process that has the lock
function ledger.open(dir)
  for _, sub in ipairs { "cells", "models", "samples" } do files.mkdir(dir .. "/" .. sub) end
  local self = setmetatable({ dir = dir, lock = files.lock(dir) }, ledger)
  for _, sub in ipairs { "cells", "models", "samples" } do sweep(dir .. "/" .. sub) end
  return self
end

function ledger.__close(self) self.lock:close() end

--- Where the quantized model of a cell lies.
function ledger:model_dir(name) return ("%s/models/%s"):format(self.dir, name) end

--- Where the lines of a cell's answers lie.
function ledger:samples_file(name) return ("%s/samples/%s.jsonl"):format(self.dir, name) end
local function cell_file(self, name) return ("%s/cells/%s.json"):format(self.dir, name) end

--- The key of a quantized model: what it was made of, and how.
function ledger.making_key(source_hash, plan, calibration)
  local c = calibration
  local learnt = c and ("%s %d %d %s %g"):format(c.hash, c.samples, c.tokens, c.weights, c.answer) or ""
  return hash(core.version, source_hash, tostring(plan), learnt)
end

--- The key of a cell: of its model, the questions and how they are asked.
-- @param model_key hash of the source, or ledger.making_key
-- @error io where a set is not there
function ledger.cell_key(model_key, o)
  local sets = {}
  for i, name in ipairs(o.tasks) do
    local task = tasks.get(name)
    sets[i] = task.name .. " " .. require "wane.sets".hash(tasks.files(o.data, task.name))
  end
  return hash(core.version, model_key, table.concat(sets, ","), tostring(math.max(o.trunc_eval, 0)),
    tostring(o.max_tokens))
end

local function load(path)
  if files.kind(path) ~= "file" then return nil end
  local ok, value = pcall(json.load, path)
  return ok and type(value) == "table" and value or nil -- what cannot be read is done again
end

-- The answers of a finished cell; nil where they are not those of its result.
local function samples_of(self, name, result)
  local samples = {}
  local ok = pcall(function()
    for sample in json.lines(self:samples_file(name)) do
      for key, value in pairs(sample) do
        if value == json.null then sample[key] = nil end
      end
      samples[#samples + 1] = sample
    end
  end)
  return ok and evaluate.key_of(samples) == result.key and samples or nil
end

--- A finished cell and its result. An error is always tried again; running out of memory is final where the budget
-- was a given one and is the same now.
-- @return cell and result (nil where the cell ran out of memory), or nothing
function ledger:read(name, key)
  local kept = load(cell_file(self, name))
  if not kept or kept.key ~= key or type(kept.cell) ~= "table" then return nil end
  if kept.cell.status == "oom" then
    local info = core.device.info()
    if info.memory and kept.memory == info.memory and kept.device == info.name then return kept.cell end
  elseif kept.cell.status == "ok" and type(kept.result) == "table" then
    kept.result.samples = samples_of(self, name, kept.result)
    if kept.result.samples then return kept.cell, kept.result end
  end
end

--- Notes a cell's outcome. The answers stay in their own file.
-- @param result of wane.evaluate, or nil
function ledger:write(name, key, cell, result)
  local info, slim = core.device.info(), nil
  if result then
    slim = {}
    for field, value in pairs(result) do slim[field] = value end
    slim.samples = nil
  end
  json.save(cell_file(self, name),
    { key = key, cell = cell, result = slim, device = info.name, memory = info.memory }, { indent = 1 })
end

--- Whether the quantized model of a cell is there, made as the key says. One that was made otherwise is removed: it is
-- this study's own, and what it stood for is not asked for any more.
-- @error io where something else lies in its place
function ledger:has_model(name, making_key)
  local dir = self:model_dir(name)
  if not files.kind(dir) then return false end
  local about = load(dir .. "/wane.json")
  if not about then
    options.fail { code = "io", op = "study", path = dir,
                   message = dir .. " was not made by this study; move it away or take another --out" }
  end
  if about.made == making_key then return true end
  files.remove(dir)
  return false
end

--- Removes the quantized model of a cell.
function ledger:remove_model(name) return files.remove(self:model_dir(name)) end

return ledger
