-- template.lua - a chat template, a byte 0 and the variables as JSON: it renders, the same twice, within its limits.
local core = require "wane.core"
local rendering = require "wane.template.rendering"
local template = require "wane.template"

template.null(core.json.null)
-- what is not paid for in steps takes long even with few of them
rendering.limits.steps, rendering.limits.output, rendering.limits.range = 200000, 1 << 20, 10000

local plain = {
  messages = {
    { role = "system", content = "Be brief." }, { role = "user", content = "Hi\n" },
    { role = "assistant", content = "<think>\nhm\n</think>\n\nHello!" }, { role = "user", content = "2+2?" },
  },
  add_generation_prompt = true, bos_token = "<s>", eos_token = "</s>",
  s = "Hello, World", u = "h\u{e9}llo \u{1f600}", n = 7, x = 2.5, l = { 3, 1, 2 }, d = { b = 1, a = 2 }, t = true,
}

return function(input)
  local source, more = input:match("^([^\0]*)\0?(.*)$")
  local variables = plain
  if more ~= "" then
    local ok, value = pcall(core.json.decode, more)
    if ok and type(value) == "table" and (getmetatable(value) or {}).__jsontype == "object" then variables = value end
  end
  local made = template.compile(source, { name = "t" })
  local ok, text = pcall(made.render, made, variables, { clock = "2026-01-31" })
  local again, other = pcall(made.render, made, variables, { clock = "2026-01-31" })
  assert(ok == again, "renders once")
  if not ok then error(text, 0) end
  assert(text == other, "renders differently")
  assert(#text <= 1 << 20, "more output than allowed")
end
