--- wane: make a large language model small, and prove what that cost.
-- What `require "wane"` gives.
local core = require "wane.core"

local wane = { core = core, error = core.error, version = core.version, tensor = core.tensor }

local function settle(code, ok, ...)
  if ok then return ... end
  local err = ...
  if getmetatable(err) == core.error and err.code == code then return nil, err end
  error(err, 0)
end

--- Runs f(...); gives nil and the error where it failed with that code, and lets any other error pass.
-- @param code "oom", "io", "format", "unsupported", "numeric", "network", "device" or "interrupted"
-- @return f's results, or nil and the error object
function wane.try(code, f, ...) return settle(code, pcall(f, ...)) end

return wane
