--- Three charts as SVG text: values with intervals, a scatter, and lines over an index. No scripts, no fonts.
-- Text is measured by its characters, so labels get the room they need on any reader's machine; colours that belong
-- to the page (ink, grid) are classes, those that tell series apart are attributes.
local svg = {}

-- Okabe and Ito's palette without its black and yellow, its blue a little lighter: told apart by colour-blind readers,
-- on white and on black
local COLOURS = { "#1c7fbf", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9" }
local WIDTH, RIGHT, TOP = 860, 24, 48
local CHARACTER = 7.0 -- width of a character of 12 px in a wide font
local ROW = 22

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

-- Text as valid UTF-8: bytes that are none, and code points that XML forbids, become U+FFFD.
local function clean(text)
  if utf8.len(text) and not text:find("\xef\xbf[\xbe\xbf]") then return text end
  local parts, at = {}, 1
  while at <= #text do
    local ok = utf8.len(text, at, at)
    local stop = ok and utf8.offset(text, 2, at) - 1 or at
    local piece = text:sub(at, stop)
    parts[#parts + 1] = ok and not piece:find("^\xef\xbf[\xbe\xbf]$") and piece or "\u{fffd}"
    at = stop + 1
  end
  return table.concat(parts)
end

--- Text made safe for XML and HTML, between tags and in attributes; control characters are dropped.
function svg.escape(text)
  return (clean((tostring(text):gsub("[\0-\8\11\12\14-\31\127]", ""))):gsub('[&<>"]', ESCAPES))
end

--- The colour of the i-th series.
function svg.colour(i) return COLOURS[(i - 1) % #COLOURS + 1] end

local function width_of(text) return CHARACTER * (utf8.len(text) or #text) end

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

-- Round steps of 1, 2 or 5 times a power of ten that cover low..high with about `count` ticks.
local function ticks(low, high, count)
  if high <= low then low, high = low - 0.5, low + 0.5 end
  local raw = (high - low) / (count or 6)
  local power = 10.0 ^ math.floor(math.log(raw, 10))
  local step = power * (raw / power > 5 and 10 or raw / power > 2 and 5 or raw / power > 1 and 2 or 1)
  local list = {}
  for i = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) do list[#list + 1] = i * step end
  if #list == 1 then list[2] = list[1] + step end
  return list
end

local function scale(list, from, to)
  local low, high = list[1], list[#list]
  return function(v) return from + (v - low) / (high - low) * (to - from) end
end

local function picture(height, title, parts)
  return element("svg", { "viewBox", ("0 0 %d %d"):format(WIDTH, math.ceil(height)), "role", "img",
                          "aria-label", title, "xmlns", "http://www.w3.org/2000/svg" },
    text(0, 18, title, "start", "title") .. table.concat(parts))
end

local function format_tick(v, unit)
  local shown = ("%.6g"):format(v == 0 and 0 or v) -- no -0
  return unit and shown .. unit or shown
end

local function finite(v) return v and v == v and v > -math.huge and v < math.huge end

-- The rows of an interval chart under their groups: { kind = "group" or "row", ... , y }, and the chart's bottom.
local function lay_out(groups)
  local laid, y = {}, TOP
  for _, g in ipairs(groups) do
    local first = y
    if g.label then
      laid[#laid + 1] = { kind = "group", label = g.label, y = y + ROW / 2 }
      y, first = y + ROW, y + ROW
    end
    for i, r in ipairs(g.rows) do
      laid[#laid + 1] = { kind = "row", row = r, y = y + ROW / 2, colour = r.colour or svg.colour(i) }
      y = y + ROW
    end
    if g.mark then laid[#laid + 1] = { kind = "mark", at = g.mark, top = first, bottom = y } end
    y = y + 6
  end
  return laid, y
end

-- widest label and widest value of the rows, and the values' extent
local function measure(groups, format)
  local left, right, low, high = 60, 40, math.huge, -math.huge
  for _, g in ipairs(groups) do
    if g.mark then low, high = math.min(low, g.mark), math.max(high, g.mark) end
    left = math.max(left, width_of(g.label or "") + 8)
    for _, r in ipairs(g.rows) do
      left = math.max(left, width_of(r.label) + 22)
      right = math.max(right, width_of(format(r)) + 12)
      low, high = math.min(low, r.low), math.max(high, r.high)
    end
  end
  if low > high then low, high = 0, 1 end
  return math.min(left, WIDTH / 2), right, low, high
end

--- Values with their intervals, one row each, under the headings of their groups; the numbers stand at the right.
-- @param title string
-- @param groups { { label or nil, mark or nil, rows = { { label, value, low, high, colour or nil } } } }: mark is
--   where a dashed line crosses the group's rows
-- @param o { unit = " %" after each tick, format = function(row) -> text }
-- @return string  <svg>
function svg.intervals(title, groups, o)
  local format = o.format or function(r) return ("%.1f (%.1f to %.1f)"):format(r.value, r.low, r.high) end
  local left, right, low, high = measure(groups, format)
  local marks = ticks(low, high, 6)
  local x = scale(marks, left, WIDTH - right - 12)
  local laid, bottom = lay_out(groups)
  local parts = {}
  for _, mark in ipairs(marks) do
    parts[#parts + 1] = line(x(mark), TOP - 6, x(mark), bottom, "grid")
    parts[#parts + 1] = text(x(mark), bottom + 16, format_tick(mark, o.unit), "middle")
  end
  for _, l in ipairs(laid) do
    if l.kind == "group" then
      parts[#parts + 1] = text(0, l.y + 4, l.label, "start", "group")
    elseif l.kind == "mark" then
      parts[#parts + 1] = line(x(l.at), l.top, x(l.at), l.bottom, "mark")
    else
      local r = l.row
      parts[#parts + 1] = text(left - 10, l.y + 4, r.label, "end")
      parts[#parts + 1] = line(x(r.low), l.y, x(r.high), l.y, "whisker", l.colour)
      parts[#parts + 1] = dot(x(r.value), l.y, l.colour, r.label .. ": " .. format(r))
      parts[#parts + 1] = text(WIDTH, l.y + 4, format(r), "end", "small")
    end
  end
  return picture(bottom + 26, title, parts)
end

local function axes(parts, x_marks, y_marks, x, y, bottom, x_title, y_title)
  for _, mark in ipairs(x_marks) do
    local at, label = mark, nil
    if type(mark) == "table" then at, label = mark.at, mark.label end
    parts[#parts + 1] = line(x(at), TOP, x(at), bottom, "grid")
    parts[#parts + 1] = text(x(at), bottom + 16, label or format_tick(at), "middle")
  end
  for _, mark in ipairs(y_marks) do
    parts[#parts + 1] = line(52, y(mark), WIDTH - RIGHT, y(mark), "grid")
    parts[#parts + 1] = text(46, y(mark) + 4, format_tick(mark), "end")
  end
  parts[#parts + 1] = text((52 + WIDTH - RIGHT) / 2, bottom + 34, x_title, "middle", "small")
  parts[#parts + 1] = text(0, TOP - 9, y_title, "start", "small")
end

-- A row of coloured squares with names, wrapped; gives the height it took.
local function legend(parts, entries, top)
  local x, y = 52, top
  for _, entry in ipairs(entries) do
    local width = 30 + width_of(entry.label)
    if x > 52 and x + width > WIDTH then x, y = 52, y + 20 end
    parts[#parts + 1] = element("rect", { "x", x, "y", y, "width", 12, "height", 12, "rx", 2, "fill",
                                          entry.colour or "currentColor", "class", entry.colour and "" or "reference" })
    parts[#parts + 1] = text(x + 17, y + 10, entry.label)
    x = x + width
  end
  return y + 20 - top
end

local function extent(list, key, pad)
  local low, high = math.huge, -math.huge
  for _, p in ipairs(list) do low, high = math.min(low, p[key]), math.max(high, p[key]) end
  if low > high then return 0, 1 end
  local room = pad * (high - low)
  return low - room, high + room
end

local function overlaps(a, b)
  return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom
end

-- Where a label may stand around its dot, best first: dx, dy, anchor.
local PLACES = {}
for _, dy in ipairs { 4, -9, 17, -22, 30, -35, 43, -48, 56 } do
  PLACES[#PLACES + 1] = { 9, dy, "start" }
  PLACES[#PLACES + 1] = { -9, dy, "end" }
end

-- The first place that meets no dot, no label and no edge; the first of all where none is free.
local function place_label(px, py, label, taken, bottom)
  local width = 0.92 * width_of(label)
  for _, place in ipairs(PLACES) do
    local left = place[3] == "start" and px + place[1] or px + place[1] - width
    local box = { left = left, right = left + width, top = py + place[2] - 10, bottom = py + place[2] + 3 }
    local free = box.left > 52 and box.right < WIDTH and box.top > TOP - 4 and box.bottom < bottom
    for _, other in ipairs(taken) do free = free and not overlaps(box, other) end
    if free then return box, place end
  end
  return nil, PLACES[1]
end

--- Points in a plane, each with its label, and a legend of their groups.
-- @param points { { x, y, label, group } }  group: a name
-- @return string  <svg>
function svg.scatter(title, points, x_title, y_title)
  local bottom = TOP + 320
  local shown, groups, number = {}, {}, {}
  for _, p in ipairs(points) do
    if finite(p.x) and finite(p.y) then shown[#shown + 1] = p end
    if p.group and not number[p.group] then
      groups[#groups + 1] = { label = p.group, colour = svg.colour(#groups + 1) }
      number[p.group] = #groups
    end
  end
  table.sort(shown, function(a, b) return a.y > b.y end)
  local x_low, x_high = extent(shown, "x", 0.08)
  local x_marks = ticks(math.max(x_low, 0), x_high, 7)
  local y_marks = ticks(extent(shown, "y", 0.1))
  local x, y = scale(x_marks, 52, WIDTH - RIGHT), scale(y_marks, bottom, TOP)
  local parts, taken = {}, {}
  axes(parts, x_marks, y_marks, x, y, bottom, x_title, y_title)
  for _, p in ipairs(shown) do
    local px, py = x(p.x), y(p.y)
    taken[#taken + 1] = { left = px - 6, right = px + 6, top = py - 6, bottom = py + 6 }
  end
  for _, p in ipairs(shown) do
    local px, py = x(p.x), y(p.y)
    local box, place = place_label(px, py, p.label, taken, bottom)
    taken[#taken + 1] = box
    if math.abs(place[2]) > 18 then parts[#parts + 1] = line(px, py, px + place[1], py + place[2] - 4, "leader") end
    parts[#parts + 1] = dot(px, py, svg.colour(number[p.group] or 1), p.label)
    parts[#parts + 1] = text(px + place[1], py + place[2], p.label, place[3], "small")
  end
  local more = #groups > 1 and legend(parts, groups, bottom + 48) or 0
  return picture(bottom + 44 + more, title, parts)
end

-- At most a dozen of the marks, evenly.
local function thin(marks)
  local step = (#marks + 11) // 12
  local kept = {}
  for i = 1, #marks, math.max(step, 1) do kept[#kept + 1] = marks[i] end
  return kept
end

--- Series over 1..n, one line each, with a legend. One with reference = true is dashed and in the page's ink.
-- @param series { { label, values = { number or false, ... }, colour, reference } }
-- @param marks { { at, label } } or nil  what is written under the axis instead of numbers
-- @return string  <svg>
function svg.lines(title, series, x_title, y_title, marks)
  local bottom, most, longest = TOP + 280, 0, 1
  for _, s in ipairs(series) do
    longest = math.max(longest, #s.values)
    for _, v in ipairs(s.values) do most = math.max(most, finite(v) and v or 0) end
  end
  local span = { 1, math.max(longest, 2) }
  local y_marks = ticks(0, most, 5)
  local x, y = scale(span, 62, WIDTH - RIGHT), scale(y_marks, bottom, TOP)
  local x_marks = marks and thin(marks) or ticks(1, math.max(longest, 2), 8)
  if not marks then
    while x_marks[1] < 1 do table.remove(x_marks, 1) end
    while x_marks[#x_marks] > span[2] do table.remove(x_marks) end
  end
  local parts, entries = {}, {}
  axes(parts, x_marks, y_marks, x, y, bottom, x_title, y_title)
  for i, s in ipairs(series) do
    local points, colour = {}, not s.reference and (s.colour or svg.colour(i)) or nil
    for j, v in ipairs(s.values) do
      if finite(v) then points[#points + 1] = ("%.1f,%.1f"):format(x(j), y(v)) end
    end
    local attributes = { "points", table.concat(points, " "), "class", s.reference and "line reference" or "line" }
    if colour then attributes[5], attributes[6] = "stroke", colour end
    parts[#parts + 1] = element("polyline", attributes)
    entries[i] = { label = s.label, colour = colour }
  end
  return picture(bottom + 44 + legend(parts, entries, bottom + 48), title, parts)
end

return svg
