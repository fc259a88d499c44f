-- generate_classes.lua: writes generated/classes.h, what the tokenizer asks of a code point.
--
--   lua5.4 runtime/text/generate_classes.lua [FOLDER] > runtime/text/generated/classes.h
--
-- FOLDER holds the Unicode Character Database 15.0 (Debian's package unicode-data, in
-- /usr/share/unicode). Hugging Face's tokenizers 0.23, which the classes follow, splits with
-- Oniguruma 6.9.10 and so with Unicode 16.0: `newer` lists the letters, digits and marks that 15.1
-- and 16.0 added (no older code point changed its class). For NFC it uses tables of Unicode 9.0, in
-- which everything assigned later is inert: the bit Q follows DerivedAge.txt in that.

local folder = arg[1] or "/usr/share/unicode"
local L, N, M, S, W, Q = 1, 2, 4, 8, 16, 32
local last, block_size = 0x10FFFF, 128

-- First, last, general category; from DerivedGeneralCategory.txt of Unicode 16.0.
local newer = {
  { 0x0897, 0x0897, "Mn" }, { 0x1C89, 0x1C8A, "Lu" }, { 0xA7CB, 0xA7CD, "Lu" },
  { 0xA7DA, 0xA7DC, "Lu" }, { 0x105C0, 0x105F3, "Lo" }, { 0x10D40, 0x10D49, "Nd" },
  { 0x10D4A, 0x10D65, "Lo" }, { 0x10D69, 0x10D6D, "Mn" }, { 0x10D6F, 0x10D85, "Lo" },
  { 0x10EC2, 0x10EC4, "Lo" }, { 0x10EFC, 0x10EFC, "Mn" }, { 0x11380, 0x11389, "Lo" },
  { 0x1138B, 0x1138B, "Lo" }, { 0x1138E, 0x1138E, "Lo" }, { 0x11390, 0x113B5, "Lo" },
  { 0x113B7, 0x113B7, "Lo" }, { 0x113B8, 0x113C0, "Mc" }, { 0x113C2, 0x113C2, "Mc" },
  { 0x113C5, 0x113C5, "Mc" }, { 0x113C7, 0x113CA, "Mc" }, { 0x113CC, 0x113D0, "Mn" },
  { 0x113D1, 0x113D1, "Lo" }, { 0x113D2, 0x113D2, "Mn" }, { 0x113D3, 0x113D3, "Lo" },
  { 0x113E1, 0x113E2, "Mn" }, { 0x116D0, 0x116E3, "Nd" }, { 0x11BC0, 0x11BE0, "Lo" },
  { 0x11BF0, 0x11BF9, "Nd" }, { 0x11F5A, 0x11F5A, "Mn" }, { 0x13460, 0x143FA, "Lo" },
  { 0x16100, 0x1611D, "Lo" }, { 0x1611E, 0x1612F, "Mn" }, { 0x16130, 0x16139, "Nd" },
  { 0x16D40, 0x16D6C, "Lo" }, { 0x16D70, 0x16D79, "Nd" }, { 0x18CFF, 0x18CFF, "Lo" },
  { 0x1CCF0, 0x1CCF9, "Nd" }, { 0x1E5D0, 0x1E5ED, "Lo" }, { 0x1E5EE, 0x1E5EF, "Mn" },
  { 0x1E5F0, 0x1E5F0, "Lo" }, { 0x1E5F1, 0x1E5FA, "Nd" }, { 0x2EBF0, 0x2EE5D, "Lo" },
}

local class = {}
for c = 0, last do class[c] = 0 end

local function add(from, to, bits)
  for c = from, to do class[c] = class[c] | bits end
end

local function bits_of(category)
  local bits = ({ L = L, N = N, M = M })[category:sub(1, 1)] or 0
  local in_word = bits == M or category == "Nd" or category == "Pc" or bits == L
  return bits | (in_word and W or 0)
end

local function lines(name)
  local file = assert(io.open(folder .. "/" .. name))
  return file:lines()
end

--- Calls f(from, to, value) for each line of a property file in which `property` is the second
--- field (or any, for nil); value is the third field, or the second where there is no third.
local function each(name, property, f)
  for line in lines(name) do
    local fields = {}
    for field in line:gsub("#.*", ""):gmatch("[^;]+") do fields[#fields + 1] = field:match("^%s*(.-)%s*$") end
    if fields[2] and (not property or fields[2] == property) then
      local from, to = fields[1]:match("^(%x+)%.%.(%x+)$")
      from, to = tonumber(from or fields[1], 16), tonumber(to or fields[1], 16)
      f(from, to, fields[3] or fields[2])
    end
  end
end

local active, first = {}, nil -- active: changed or moved by NFC
for line in lines "UnicodeData.txt" do
  local code, name, category, combining = line:match "^(%x+);([^;]*);([^;]*);([^;]*)"
  code = tonumber(code, 16)
  if name:match "First>$" then
    first = code
  else
    add(name:match "Last>$" and first or code, code, bits_of(category))
    if combining ~= "0" then active[code] = true end
  end
end
for _, range in ipairs(newer) do
  for c = range[1], range[2] do assert(class[c] == 0, "already assigned") end
  add(range[1], range[2], bits_of(range[3]))
end

each("PropList.txt", "White_Space", function(from, to) add(from, to, S) end)
each("PropList.txt", "Join_Control", function(from, to) add(from, to, W) end)
each("DerivedCoreProperties.txt", "Alphabetic", function(from, to) add(from, to, W) end)
each("DerivedNormalizationProps.txt", "NFC_QC", function(from, to)
  for c = from, to do active[c] = true end
end)
each("DerivedAge.txt", nil, function(from, to, age)
  if tonumber(age) > 9 then return end
  for c = from, to do
    if active[c] then add(c, c, Q) end
  end
end)

local index, values, seen = {}, {}, {}
for start = 0, last, block_size do
  local block = table.concat(class, ",", start, start + block_size - 1)
  if not seen[block] then
    seen[block] = #values // block_size
    for c = start, start + block_size - 1 do values[#values + 1] = class[c] end
  end
  index[#index + 1] = seen[block]
end

local function array(type, name, items)
  io.write(("const %s %s[%d] = {\n"):format(type, name, #items))
  local row = "   "
  for i, item in ipairs(items) do
    local text = (" %d%s"):format(item, i < #items and "," or "")
    if #row + #text > 100 then
      io.write(row, "\n")
      row = "   "
    end
    row = row .. text
  end
  io.write(row, "\n};\n")
end

io.write [[
/* classes.h - classes of code points; written by generate_classes.lua, not by hand.
 *
 * Made from the data files of the Unicode Character Database 15.0.0 (UnicodeData, PropList,
 * DerivedCoreProperties, DerivedNormalizationProps, DerivedAge), with the letters, digits and marks
 * of 15.1 and 16.0 added. Copyright 1991-2024 Unicode, Inc. All rights reserved. Unicode and the
 * Unicode Logo are registered trademarks of Unicode, Inc. in the U.S. and other countries. The
 * licence of the data files stands beside this file in LICENSE-UNICODE.
 *
 * The class of c is wane_class_value[wane_class_index[c / 128] * 128 + c % 128], bits as in
 * unicode.h: 1 L, 2 N, 4 M, 8 White_Space, 16 a word character, 32 not inert under NFC. */

/* clang-format off */
]]
array("uint16_t", "wane_class_index", index)
array("uint8_t", "wane_class_value", values)
io.write "/* clang-format on */\n"
