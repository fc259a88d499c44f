--- wane convert SRC DST --format F: a quantized model in another format, or dense.
local core = require "wane.core"
local formats = require "wane.formats"

local function print_told(wane, told)
  print(("%s: %s, %s of files, %.2f bits a weight"):format(told.dir, told.format, wane.bytes(told.bytes),
    told.bits_per_weight))
  if told.rounded == 0 then
    print "every weight is what it was"
  else
    print(("%d %s rounded, the largest change %.2g"):format(told.rounded,
      told.format == "dense" and "weights were" or "scales or zero points were", told.largest_change))
  end
end

return {
  summary = "write a quantized model in another format, or dense",
  arguments = { { name = "src", doc = "folder of a quantized model" },
                { name = "dst", doc = "folder to write; must not be there yet" } },
  options = formats.convert_spec,
  json = true,
  run = function(o)
    local wane = require "wane"
    local told = formats.convert(o.src, o.dst, { format = o.format, dtype = o.dtype, round_scales = o.round_scales,
                                                 shard_bytes = o.shard_bytes })
    if o.json then print(core.json.encode(told, { indent = 2 })) else print_told(wane, told) end
    return 0
  end,
}
