-- look.lua: one matrix by hand: its codes by two methods, and what each lost.   build/wane examples/look.lua
local wane = require "wane"

local model <close> = wane.load "examples/models/lune-1m"
local w = model.layers[1].mlp.down_proj.weight
print(w.shape[1] .. " x " .. w.shape[2], w.dtype, model)

for _, method in ipairs { wane.rtn, wane.hqq } do
  for _, bits in ipairs { 8, 4, 3, 2 } do
    local codes <close> = method.encode(w, { bits = bits, group_size = 64 })
    local lost = (codes:decode() - w):norm() / w:norm()
    print(("%-4s %s   %.4f of the weights' size lost"):format(method.name, codes, lost))
  end
end
