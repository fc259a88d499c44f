-- packed.lua: saved checkpoints read by other means than wane's own, for specs: safetensors, compressed-tensors, AutoAWQ
-- and GPTQ as their documents describe them, in plain Lua. Slow, small, and independent of what it checks.
local json = require "wane.json"

local packed = {}

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

-- A safetensors file: header length, header, data. Gives name -> { dtype, shape, bytes }, and the metadata.
function packed.file(path)
  local text = read(path)
  local length = string.unpack("<I8", text)
  local header = json.decode(text:sub(9, 8 + length))
  local tensors, total = {}, 0
  for name, about in pairs(header) do
    if name ~= "__metadata__" then
      local from, to = about.data_offsets[1], about.data_offsets[2]
      tensors[name] = { dtype = about.dtype, shape = about.shape, bytes = text:sub(9 + length + from, 8 + length + to) }
      total = total + to - from
    end
  end
  return tensors, header.__metadata__, total, length
end

-- Every tensor of a folder, from one file or as the index says: name -> { dtype, shape, bytes }.
function packed.folder(dir)
  local index = io.open(dir .. "/model.safetensors.index.json")
  if not index then return (packed.file(dir .. "/model.safetensors")) end
  local map, files, tensors = json.decode(index:read "a").weight_map, {}, {}
  index:close()
  for name, shard in pairs(map) do
    files[shard] = files[shard] or packed.file(dir .. "/" .. shard)
    tensors[name] = assert(files[shard][name], name .. " is not in " .. shard)
  end
  return tensors
end

local function bf16(bytes, i) return (string.unpack("<f", "\0\0" .. bytes:sub(2 * i - 1, 2 * i))) end

local function f16(bytes, i)
  local word = string.unpack("<I2", bytes, 2 * i - 1)
  local exponent, fraction = word >> 10 & 31, word & 1023
  assert(exponent < 31 and word < 0x8000, "a scale is a finite positive number")
  return exponent == 0 and fraction * 2.0^-24 or (1024 + fraction) * 2.0^(exponent - 25)
end

-- `count` values of `bits` each from a row of 32-bit words, the first in the lowest bits.
local function values(words, bits, count)
  local list, mask = {}, (1 << bits) - 1
  for i = 0, count - 1 do
    local at = i * bits
    local word, shift = at // 32, at % 32
    local value = words[word + 1] >> shift
    if shift + bits > 32 then value = value | words[word + 2] << (32 - shift) end
    list[i + 1] = value & mask
  end
  return list
end

local function words_of(bytes, from, count)
  local list = {}
  for i = 1, count do list[i] = string.unpack("<I4", bytes, 4 * (from + i - 1) + 1) end
  return list
end

-- Zero points: packed along the outputs, column by column; zero[row][group].
local function zeros(tensors, matrix, m, groups, bits)
  local t = tensors[matrix .. ".weight_zero_point"]
  if not t then return nil end
  local rows = t.shape[1]
  assert(t.dtype == "I32" and rows == (m * bits + 31) // 32 and t.shape[2] == groups)
  local zero = {}
  for r = 1, m do zero[r] = {} end
  for g = 1, groups do
    local column = {}
    for w = 1, rows do column[w] = string.unpack("<I4", t.bytes, 4 * ((w - 1) * groups + g - 1) + 1) end
    for r, value in ipairs(values(column, bits, m)) do zero[r][g] = value end
  end
  return zero
end

local ORDER = { 0, 2, 4, 6, 1, 3, 5, 7 }

-- AutoAWQ: word (k, c) has in nibble i the code of input k, output 8c + ORDER[i]; zero points in the same way.
local function decode_awq(words, points, scales)
  local k, m, rows = words.shape[1], scales.shape[2], {}
  local group = k // scales.shape[1]
  assert(words.dtype == "I32" and scales.dtype == "F16" and words.shape[2] == m // 8)
  for r = 1, m do rows[r] = {} end
  for c = 0, k - 1 do
    local codes = words_of(words.bytes, c * (m // 8), m // 8)
    local zero = words_of(points.bytes, c // group * (m // 8), m // 8)
    for w = 0, m // 8 - 1 do
      for i, offset in ipairs(ORDER) do
        local r, shift = 8 * w + offset, 4 * (i - 1)
        local code, point = codes[w + 1] >> shift & 15, zero[w + 1] >> shift & 15
        rows[r + 1][c + 1] = (code - point) * f16(scales.bytes, c // group * m + r + 1)
      end
    end
  end
  return rows
end

-- GPTQ version 1: each output's codes are a column of words; zero points are stored less 1.
local function decode_gptq(words, stored, scales, bits)
  local m, rows = scales.shape[2], {}
  local per, k = words.shape[1], words.shape[1] * 32 // bits
  local group = k // scales.shape[1]
  assert(words.dtype == "I32" and scales.dtype == "F16" and words.shape[2] == m)
  local points = {}
  for g = 0, scales.shape[1] - 1 do
    points[g] = values(words_of(stored.bytes, g * stored.shape[2], stored.shape[2]), bits, m)
  end
  for r = 0, m - 1 do
    local column = {}
    for w = 0, per - 1 do column[w + 1] = string.unpack("<I4", words.bytes, 4 * (w * m + r) + 1) end
    local row = values(column, bits, k)
    for c = 1, k do
      local g = (c - 1) // group
      row[c] = (row[c] - points[g][r + 1] - 1) * f16(scales.bytes, g * m + r + 1)
    end
    rows[r + 1] = row
  end
  return rows
end

-- The weights of one matrix, row by row: (q - zero) * scale with the signed codes of the format.
function packed.decode(tensors, matrix, bits)
  local words, scales = tensors[matrix .. ".qweight"], tensors[matrix .. ".scales"]
  if words then
    local points = tensors[matrix .. ".qzeros"]
    if words.shape[2] == scales.shape[2] then return decode_gptq(words, points, scales, bits) end
    return decode_awq(words, points, scales)
  end
  local scale = tensors[matrix .. ".weight_scale"]
  local m, groups = scale.shape[1], scale.shape[2]
  local rows, int8 = {}, tensors[matrix .. ".weight"]
  assert(scale.dtype == "BF16")
  if int8 then
    assert(int8.dtype == "I8" and int8.shape[1] == m and groups == 1)
    local k = int8.shape[2]
    for r = 1, m do
      local row, s = {}, bf16(scale.bytes, r)
      for c = 1, k do row[c] = string.unpack("<i1", int8.bytes, (r - 1) * k + c) * s end
      rows[r] = row
    end
    return rows
  end
  local codes, shape = tensors[matrix .. ".weight_packed"], tensors[matrix .. ".weight_shape"]
  local k = string.unpack("<i8", shape.bytes, 9)
  assert(string.unpack("<i8", shape.bytes) == m and shape.dtype == "I64" and codes.dtype == "I32")
  assert(codes.shape[1] == m and codes.shape[2] == (k * bits + 31) // 32)
  local zero, half, group = zeros(tensors, matrix, m, groups, bits), 1 << (bits - 1), k // groups
  for r = 1, m do
    local row = values(words_of(codes.bytes, (r - 1) * codes.shape[2], codes.shape[2]), bits, k)
    for c = 1, k do
      local g = (c - 1) // group + 1
      local signed, point = row[c] - half, zero and zero[r][g] - half or 0
      row[c] = (signed - point) * bf16(scale.bytes, (r - 1) * groups + g)
    end
    rows[r] = row
  end
  return rows
end

return packed
