--- What went wrong, as a person at a terminal reads it.
local core = require "wane.core"

local failure = {}

-- Whether the frames tell no more than the message: a line at the prompt that called wane, which refused.
local function says_nothing(head, frames)
  local refused = false
  for _, line in ipairs(frames) do
    local ours = line:find("^%s*%S*wane/[%w_/]+%.lua:") ~= nil
    refused = refused or ours
    local other = line:find("^%s*%[C%]:") or line:find("tail calls", 1, true)
      or line:find("^%s*prompt:1: in main chunk")
    if not ours and not other then return false end
  end
  return refused and not head:find("^wane/") -- an error in wane itself is told in full
end

-- Leaves out the frames below the script: the prompt's and the command line's own.
local function trim(text)
  local head, stack = text:match("^(.-)\nstack traceback:\n(.*)$")
  if not head then head, stack = text:match("^(stack traceback:)\n(.*)$") end
  if not stack then return text end
  local kept = {}
  for line in stack:gmatch("[^\n]+") do
    if line:find("^%s*%S*wane/repl%.lua:") or line:find("^%s*%S*wane/cli%.lua:") then
      if kept[1] and kept[#kept]:find("^%s*%[C%]: in ") then kept[#kept] = nil end -- what called the script
      break
    end
    kept[#kept + 1] = line
  end
  if kept[1] and kept[#kept]:find("tail calls", 1, true) then kept[#kept] = nil end
  if says_nothing(head, kept) then kept = {} end
  if not kept[1] then return head ~= "stack traceback:" and head or "" end
  local title = head == "stack traceback:" and head or head .. "\nstack traceback:"
  return title .. "\n" .. table.concat(kept, "\n")
end

--- The text of an error value that core.traceback has seen: its message, then where it happened.
-- @param terse leaves out where an error object happened; a string is a bug and always tells
function failure.text(err, terse)
  local ok, text = pcall(tostring, err)
  if not ok then text = ("an error (a %s) that cannot be shown"):format(type(err)) end
  if getmetatable(err) ~= core.error then return trim(text) end
  local trace = not terse and rawget(err, "traceback")
  trace = type(trace) == "string" and trim(trace) or ""
  return trace ~= "" and text .. "\n" .. trace or text
end

return failure
