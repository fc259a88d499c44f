--- Three charts as SVG text: values with intervals, a scatter, and lines over an index. No scripts, no fonts.
local svg = {}

-- Okabe and Ito's palette, told apart by colour-blind readers too
local COLOURS = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000" }
local WIDTH, LEFT, RIGHT, TOP = 760, 190, 30, 34

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

--- Text made safe for XML; control characters are dropped.
function svg.escape(text)
  return (tostring(text):gsub('[&<>"]', ESCAPES):gsub("[\0-\8\11\12\14-\31]", ""))
end

local function element(name, attributes, inside)
  local parts = { "<", name }
  for i = 1, #attributes, 2 do
    local value = attributes[i + 1]
    if type(value) == "number" then value = ("%.6g"):format(value) end
    parts[#parts + 1] = (' %s="%s"'):format(attributes[i], svg.escape(value))
  end
  parts[#parts + 1] = inside and (">" .. inside .. "</" .. name .. ">") or "/>"
  return table.concat(parts)
end

local function text(x, y, content, anchor, class)
  return element("text", { "x", x, "y", y, "text-anchor", anchor or "start", "class", class or "label" },
    svg.escape(content))
end

local function line(x1, y1, x2, y2, class, colour)
  local attributes = { "x1", x1, "y1", y1, "x2", x2, "y2", y2, "class", class }
  if colour then attributes[#attributes + 1], attributes[#attributes + 2] = "stroke", colour end
  return element("line", attributes)
end

local function dot(x, y, colour, title)
  return element("circle", { "cx", x, "cy", y, "r", 4.5, "fill", colour }, "<title>" .. svg.escape(title) .. "</title>")
end

-- Round steps of 1, 2 or 5 times a power of ten that cover low..high with about five ticks.
local function ticks(low, high)
  if high <= low then high = low + 1 end
  local raw = (high - low) / 5
  local power = 10 ^ math.floor(math.log(raw, 10))
  local step = power * (raw / power > 5 and 10 or raw / power > 2 and 5 or raw / power > 1 and 2 or 1)
  local list = {}
  for i = math.floor(low / step), math.ceil(high / step) do list[#list + 1] = i * step end
  return list
end

local function scale(list, from, to)
  local low, high = list[1], list[#list]
  return function(v) return from + (v - low) / (high - low) * (to - from) end
end

local function picture(height, title, parts)
  return element("svg", { "viewBox", ("0 0 %d %d"):format(WIDTH, height), "role", "img", "aria-label", title,
                          "xmlns", "http://www.w3.org/2000/svg" },
    text(LEFT, 18, title, "start", "title") .. table.concat(parts))
end

local function format_tick(v, unit)
  local shown = ("%.6g"):format(v)
  return unit and shown .. unit or shown
end

--- Values with their intervals, one row each.
-- @param title string
-- @param rows { { label, value, low, high, group } }  group picks the colour
-- @param unit string or nil  after each tick
-- @return string  <svg>
function svg.intervals(title, rows, unit)
  local low, high = math.huge, -math.huge
  for _, r in ipairs(rows) do low, high = math.min(low, r.low), math.max(high, r.high) end
  if low > high then low, high = 0, 1 end
  local marks = ticks(low, high)
  local x = scale(marks, LEFT, WIDTH - RIGHT)
  local bottom = TOP + 24 * #rows
  local parts = {}
  for _, mark in ipairs(marks) do
    parts[#parts + 1] = line(x(mark), TOP - 6, x(mark), bottom, "grid")
    parts[#parts + 1] = text(x(mark), bottom + 16, format_tick(mark, unit), "middle")
  end
  for i, r in ipairs(rows) do
    local y = TOP + 24 * i - 14
    local colour = COLOURS[((r.group or 1) - 1) % #COLOURS + 1]
    parts[#parts + 1] = text(LEFT - 10, y + 4, r.label, "end")
    parts[#parts + 1] = line(x(r.low), y, x(r.high), y, "whisker", colour)
    parts[#parts + 1] = dot(x(r.value), y, colour,
      ("%s: %.4g (%.4g to %.4g)"):format(r.label, r.value, r.low, r.high))
  end
  return picture(bottom + 28, title, parts)
end

local function axes(parts, x_marks, y_marks, x, y, bottom, x_title, y_title)
  for _, mark in ipairs(x_marks) do
    parts[#parts + 1] = line(x(mark), TOP, x(mark), bottom, "grid")
    parts[#parts + 1] = text(x(mark), bottom + 16, format_tick(mark), "middle")
  end
  for _, mark in ipairs(y_marks) do
    parts[#parts + 1] = line(70, y(mark), WIDTH - RIGHT, y(mark), "grid")
    parts[#parts + 1] = text(62, y(mark) + 4, format_tick(mark), "end")
  end
  parts[#parts + 1] = text((70 + WIDTH - RIGHT) / 2, bottom + 36, x_title, "middle")
  parts[#parts + 1] = text(8, TOP - 8, y_title, "start")
end

local function extent(list, key, pad)
  local low, high = math.huge, -math.huge
  for _, p in ipairs(list) do low, high = math.min(low, p[key]), math.max(high, p[key]) end
  if low > high then return 0, 1 end
  local room = pad * (high - low)
  return low - room, high + room
end

--- Points in a plane, each with its label.
-- @param points { { x, y, label, group } }
-- @return string  <svg>
function svg.scatter(title, points, x_title, y_title)
  local bottom = TOP + 300
  local x_marks, y_marks = ticks(extent(points, "x", 0.05)), ticks(extent(points, "y", 0.1))
  local x, y = scale(x_marks, 70, WIDTH - RIGHT), scale(y_marks, bottom, TOP)
  local parts = {}
  axes(parts, x_marks, y_marks, x, y, bottom, x_title, y_title)
  for _, p in ipairs(points) do
    local near_edge = x(p.x) > WIDTH - 150
    parts[#parts + 1] = dot(x(p.x), y(p.y), COLOURS[((p.group or 1) - 1) % #COLOURS + 1], p.label)
    parts[#parts + 1] = text(x(p.x) + (near_edge and -8 or 8), y(p.y) - 6, p.label, near_edge and "end" or "start",
      "small")
  end
  return picture(bottom + 48, title, parts)
end

--- Series over 1..n, one line each, with a legend.
-- @param series { { label, values = { number, ... }, names = { string, ... } or nil } }
-- @return string  <svg>
function svg.lines(title, series, x_title, y_title)
  local bottom, most, longest = TOP + 280, 0, 1
  for _, s in ipairs(series) do
    longest = math.max(longest, #s.values)
    for _, v in ipairs(s.values) do most = math.max(most, v) end
  end
  local x_marks, y_marks = ticks(1, math.max(longest, 2)), ticks(0, most)
  local x, y = scale(x_marks, 70, WIDTH - RIGHT), scale(y_marks, bottom, TOP)
  local parts = {}
  axes(parts, x_marks, y_marks, x, y, bottom, x_title, y_title)
  local legend = 70
  for i, s in ipairs(series) do
    local colour, points = COLOURS[(i - 1) % #COLOURS + 1], {}
    for j, v in ipairs(s.values) do points[j] = ("%.1f,%.1f"):format(x(j), y(v)) end
    parts[#parts + 1] = element("polyline", { "points", table.concat(points, " "), "class", "line", "stroke", colour })
    parts[#parts + 1] = element("rect", { "x", legend, "y", bottom + 50, "width", 12, "height", 12, "fill", colour })
    parts[#parts + 1] = text(legend + 17, bottom + 60, s.label)
    legend = legend + 36 + 7 * utf8.len(s.label)
  end
  return picture(bottom + 74, title, parts)
end

return svg
