-- smaller.lua: a model in four bits, and what that changed.   build/wane examples/smaller.lua
local wane = require "wane"
wane.device { memory = "1GiB" }                          -- never more than this at once, or error code "oom"

local model <close> = wane.load "examples/models/lune-5m"  -- opens; reads headers, no weights
local calibration = wane.calibration { file = "examples/data/calibration.jsonl" }

local plan = wane.gptq { bits = 4, group_size = 64 }       -- a typo here is an error here
local small, err = wane.try("oom", wane.quantize, model, plan, calibration)
if not small then                                        -- a full device is a value, not the end
  print(wane.bytes(err.requested), "asked for,", wane.bytes(err.free), "free")
  os.exit(4)
end
print(small, small.quantization.error, "relative output error; round to nearest:", small.quantization.rtn_error)

small:save "out/lune-5m_gptq_w4g64"                        -- read back and compared before it gets its name
local saved <close> = wane.load "out/lune-5m_gptq_w4g64"   -- computes on the packed codes
local before, after = wane.evaluate(model), wane.evaluate(saved)
print(wane.report { before, after })                     -- paired, with intervals, McNemar's p, and every flip
