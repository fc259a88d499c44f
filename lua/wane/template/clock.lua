--- clock.lua: the time that templates see, which stands still.
--
-- A prompt that holds today's date is a different prompt tomorrow. So strftime_now reads a clock that is
-- given: the option `clock` of a rendering, else the environment variable WANE_NOW, else 2026-01-01T00:00:00.
-- A clock is "YYYY-MM-DD", optionally with "THH:MM" or "THH:MM:SS" (a blank for the T will do), seconds
-- since 1970 (UTC), or a table { year, month, day, hour, min, sec } as os.date "*t" gives it. There are no
-- time zones. Names of days and months are English.
local clock = {}

clock.default = "2026-01-01T00:00:00"

local DAYS = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday" }
local MONTHS = {
  "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
  "November", "December",
}
local LENGTHS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_leap(year) return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) end

local function month_length(year, month) return month == 2 and is_leap(year) and 29 or LENGTHS[month] end

local function days_before_year(year)
  local y = year - 1
  return 365 * y + y // 4 - y // 100 + y // 400
end

local EPOCH = days_before_year(1970)

local function from_seconds(seconds)
  local days, rest = EPOCH + seconds // 86400, seconds % 86400
  local year = days // 366 + 1
  while days_before_year(year + 1) <= days do
    year = year + 1
  end
  days = days - days_before_year(year)
  local month = 1
  while days >= month_length(year, month) do
    days = days - month_length(year, month)
    month = month + 1
  end
  return {
    year = year, month = month, day = days + 1,
    hour = rest // 3600, min = rest // 60 % 60, sec = rest % 60,
  }
end

local function from_text(text)
  local year, month, day, rest = text:match "^(%d%d%d%d)%-(%d%d)%-(%d%d)(.*)$"
  if not year then return nil end
  local hour, min, sec = rest:match "^[T ](%d%d):(%d%d):(%d%d)Z?$"
  if not hour then
    hour, min = rest:match "^[T ](%d%d):(%d%d)Z?$"
    if not hour and rest ~= "" then return nil end
  end
  local function whole(digits) return math.tointeger(tonumber(digits or 0)) end
  return {
    year = whole(year), month = whole(month), day = whole(day),
    hour = whole(hour), min = whole(min), sec = whole(sec),
  }
end

local function is_valid(t)
  local function within(v, least, most) return math.type(v) == "integer" and v >= least and v <= most end
  return within(t.year, 1, 9999) and within(t.month, 1, 12) and within(t.day, 1, month_length(t.year, t.month))
    and within(t.hour, 0, 23) and within(t.min, 0, 59) and within(t.sec, 0, 59)
end

--- The clock as a table of its parts; raises a string where it is none.
-- @param value a clock, or nil for WANE_NOW or the default
function clock.read(value)
  local name = "clock"
  if value == nil then
    name, value = "WANE_NOW", os.getenv "WANE_NOW"
    if value == nil or value == "" then value = clock.default end
  end
  local t
  if type(value) == "string" then
    t = from_text(value)
  elseif math.type(value) == "integer" then
    if value >= -62135596800 and value < 253402300800 then t = from_seconds(value) end -- years 1 to 9999
  elseif type(value) == "table" then
    t = {
      year = value.year, month = value.month, day = value.day,
      hour = value.hour or 0, min = value.min or 0, sec = value.sec or 0,
    }
  end
  if not t or not is_valid(t) then
    error(("%s is no time: %s; write it as 2026-01-31T12:00:00"):format(name, tostring(value)), 0)
  end
  return t
end

--- The clock as "YYYY-MM-DDTHH:MM:SS", for the record of a run.
function clock.text(t)
  return ("%04d-%02d-%02dT%02d:%02d:%02d"):format(t.year, t.month, t.day, t.hour, t.min, t.sec)
end

local function day_of_year(t)
  local days = t.day
  for month = 1, t.month - 1 do
    days = days + month_length(t.year, month)
  end
  return days
end

-- 0 is Sunday: day 1 of year 1 was a Monday
local function weekday(t) return (days_before_year(t.year) + day_of_year(t)) % 7 end

local function hour12(t) return (t.hour + 11) % 12 + 1 end

local strftime

local FIELDS = {
  a = function(t) return DAYS[weekday(t) + 1]:sub(1, 3) end,
  A = function(t) return DAYS[weekday(t) + 1] end,
  b = function(t) return MONTHS[t.month]:sub(1, 3) end,
  B = function(t) return MONTHS[t.month] end,
  c = function(t) return strftime(t, "%a %b ") .. ("%2d"):format(t.day) .. strftime(t, " %H:%M:%S %Y") end,
  d = function(t) return t.day, 2 end,
  D = function(t) return strftime(t, "%m/%d/%y") end,
  e = function(t) return ("%2d"):format(t.day) end,
  f = function() return "000000" end,
  F = function(t) return strftime(t, "%Y-%m-%d") end,
  h = function(t) return MONTHS[t.month]:sub(1, 3) end,
  H = function(t) return t.hour, 2 end,
  I = function(t) return hour12(t), 2 end,
  j = function(t) return day_of_year(t), 3 end,
  m = function(t) return t.month, 2 end,
  M = function(t) return t.min, 2 end,
  n = function() return "\n" end,
  p = function(t) return t.hour < 12 and "AM" or "PM" end,
  R = function(t) return strftime(t, "%H:%M") end,
  S = function(t) return t.sec, 2 end,
  t = function() return "\t" end,
  T = function(t) return strftime(t, "%H:%M:%S") end,
  u = function(t) return tostring((weekday(t) + 6) % 7 + 1) end,
  w = function(t) return tostring(weekday(t)) end,
  x = function(t) return strftime(t, "%m/%d/%y") end,
  X = function(t) return strftime(t, "%H:%M:%S") end,
  y = function(t) return t.year % 100, 2 end,
  Y = function(t) return tostring(t.year) end,
  z = function() return "" end,
  Z = function() return "" end,
  ["%"] = function() return "%" end,
}

--- The clock in a format of strftime; nil and the field where it has one that is not known.
function strftime(t, format)
  local out, at = {}, 1
  while true do
    local percent = format:find("%", at, true)
    if not percent then break end
    out[#out + 1] = format:sub(at, percent - 1)
    local flag, letter, stop = format:match("^%%(%-?)(.)()", percent)
    local field = FIELDS[letter]
    if not field then return nil, format:sub(percent, percent + 1) end
    local value, width = field(t)
    if width then value = flag == "-" and tostring(value) or ("%0" .. width .. "d"):format(value) end
    out[#out + 1] = value
    at = stop
  end
  out[#out + 1] = format:sub(at)
  return table.concat(out)
end

clock.strftime = strftime

return clock
