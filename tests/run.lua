-- run.lua: busted inside the wane binary: build/wane tests/run.lua tests/spec [options]
assert(_VERSION == "Lua 5.4", _VERSION)
package.path = "tests/?.lua;" .. package.path
require "busted.runner" { standalone = false }
