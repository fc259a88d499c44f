--- What a model is, read off what is stored: its name, a hash of its weights, its size, its label.
local core = require "wane.core"
local hub = require "wane.hub"

local fingerprint = {}

local WEIGHTS = "%.safetensors$"
local ALSO = { ["config.json"] = true, ["tokenizer.json"] = true, ["tokenizer_config.json"] = true,
               ["chat_template.jinja"] = true, ["generation_config.json"] = true }

local known = {} -- stamp of a file -> its hash: weights are read once for it by a process

local function hash_file(path)
  local stamp = core.files.stamp(path)
  local hash = known[stamp or ""] or core.files.sha256_file(path)
  if stamp and stamp == core.files.stamp(path) then known[stamp] = hash end
  return hash
end

--- A path as text: bytes that are no UTF-8, and control characters, as \\xNN.
function fingerprint.shown(path)
  local pattern = utf8.len(path) and "[%c\127]" or "[%c\127-\255]"
  return (path:gsub(pattern, function(c) return ("\\x%02x"):format(c:byte()) end))
end

--- The last part of a model's folder, or of its id where that folder is in the Hub's cache, as text.
function fingerprint.name(model)
  local id = hub.id_of(model.dir)
  if id then return id:match "[^/]+$" end
  return fingerprint.shown((model.dir:gsub("/+$", ""):match("([^/]+)$")) or model.dir)
end

--- SHA-256 over every file of a folder that changes what the model says: weights, config, tokenizer, template.
-- @param dir string
-- @return string  64 hex digits
-- @error io
function fingerprint.of_dir(dir)
  local parts = {}
  for _, name in ipairs(core.files.list(dir)) do
    if name:find(WEIGHTS) or ALSO[name] then
      parts[#parts + 1] = name .. " " .. hash_file(dir .. "/" .. name)
    end
  end
  return core.files.sha256(table.concat(parts, "\n"))
end

--- The same of a model: of its folder, or where it was only just made, of its source and how it was made.
function fingerprint.of(model)
  local of_dir = fingerprint.of_dir(model.dir)
  local q = model.quantization
  if not q or q.dir == model.dir then return of_dir end
  local c = q.calibration or {}
  local made = { core.version, q.plan or q.label, c.hash or "", c.samples or "", c.weights or "", c.answer or "" }
  return core.files.sha256(of_dir .. "\n" .. core.json.encode(made))
end

--- Bytes of the weights as the files hold them, and bits for each weight of the model.
-- @return integer, number
function fingerprint.size(model)
  local bytes = 0
  for _, name in ipairs(core.files.list(model.dir)) do
    if name:find(WEIGHTS) then bytes = bytes + core.files.size(model.dir .. "/" .. name) end
  end
  local q = model.quantization
  if q and q.dir ~= model.dir then bytes = model.bytes end -- not saved: what lies in memory
  return bytes, 8 * bytes / model.parameters
end

--- How a quantized model is stored, read off its tensors.
function fingerprint.label(model)
  local q = model.quantization
  return { method = q.method, bits = q.bits, group_size = q.group_size, symmetric = q.symmetric,
           activation_bits = q.activation_bits, label = q.label, calibration = q.calibration }
end

return fingerprint
