-- raises.lua: the error object that f(...) raises, for specs; fails where there is none, or one of another code.
local core = require "wane.core"
local assert = require "luassert"

return function(code, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.equal(core.error, getmetatable(err), tostring(err))
  assert.equal(code, err.code)
  return err
end
