--- How far work has come: talk on stderr, never on stdout; a bar on a terminal only.
local core = require "wane.core"

local progress = {}

local REDRAW = 0.1 -- seconds
local shown -- whether a bar stands in the terminal's last line

local function clear()
  if shown then io.stderr:write("\r\27[K") end
  shown = false
end

--- Seconds as people say them: 8 s, 3:05 min, 2:10 h.
function progress.seconds(s)
  s = math.max(0, math.floor(s + 0.5))
  if s < 60 then return ("%d s"):format(s) end
  if s < 3600 then return ("%d:%02d min"):format(s // 60, s % 60) end
  return ("%d:%02d h"):format(s // 3600, s % 3600 // 60)
end

--- One line of talk; control characters are shown, not obeyed.
function progress.say(text)
  clear()
  io.stderr:write((tostring(text):gsub("[%c\127]", function(c) return ("\\x%02x"):format(c:byte()) end)), "\n")
end

--- A bar: gives a function to call with how much is done, of how much, and what is being done.
-- It draws on a terminal alone, at most ten times a second, with the time that is left by what was measured so far.
function progress.bar(label)
  if not core.system.terminal "stderr" then return function() end end
  local began, drawn = core.clock(), 0
  return function(done, of, what)
    local now = core.clock()
    if done >= of then return clear() end
    if now - drawn < REDRAW then return end
    drawn = now
    local left = done > 0 and (", %s left"):format(progress.seconds((now - began) * (of - done) / done)) or ""
    local line = ("%s %d/%d%s %s"):format(label, done, of, left, what or ""):gsub("%c", "?")
    io.stderr:write("\r", line:sub(1, core.system.width "stderr" - 1), "\27[K")
    shown = true
  end
end

return progress
