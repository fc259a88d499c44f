-- device.lua: what specs must know of the device in use, which WANE_DEVICE names. On the CPU activations are float32 and
-- results meet their references closely; a GPU rounds what products read to bfloat16.
local core = require "wane.core"

local info = core.device.info()
local device = { name = info.name, cpu = info.name == "cpu", exact = info.activations == "f32" }

-- how far a result may be off: `limit` where products read float32
function device.near(limit) return device.exact and limit or math.max(limit, 2e-2) end

-- how many of n answers may be others: none, or the close calls
function device.close_calls(n) return device.exact and 0 or math.ceil(n / 100) end

return device
