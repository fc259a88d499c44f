--- A report before it is a page: a list of blocks, written as Markdown or as one self-contained HTML file.
-- Blocks: { kind = "heading", level, text }, { kind = "text", text, class }, { kind = "table", header, rows, align },
-- { kind = "chart", svg, caption }, { kind = "list", items }, { kind = "fold", summary, blocks },
-- shown in Markdown too where everywhere is set.
-- A table's align has a letter for each column: l, r, w (text that wraps), s (a state, shown as a badge).
local svg = require "wane.svg"

local document = {}

local STYLE = [[
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fdfdfb; --line: #dcdcd6; --soft: #66665f; --good: #00694d;
  --bad: #b3401c; --unsure: #6f6200; --tint: #f2f2ec; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e2; --paper: #16171a; --line: #36373c; --soft: #a3a39c;
  --good: #4cc79d; --bad: #f0875e; --unsure: #d9c95a; --tint: #202126; } }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 66rem;
  margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p.lead { font-size: 1.05rem; background: var(--tint); border-left: 3px solid var(--soft); padding: .7rem 1rem; }
p.note { color: var(--soft); font-size: .88rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; margin: .4rem 0; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap;
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.right, th.right { text-align: right; font-variant-numeric: tabular-nums; }
td.wrap { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
.state { font-weight: 600; color: var(--unsure); }
.state.good { color: var(--good); } .state.bad { color: var(--bad); }
svg { max-width: 100%; height: auto; margin: .8rem 0; display: block; overflow: visible; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg text.title, svg text.group { font-weight: 600; } svg text.title { font-size: 14px; }
svg text.small { font-size: 11px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); } svg .whisker { stroke-width: 2; } svg .leader { stroke: var(--soft); }
svg .mark { stroke: var(--ink); stroke-dasharray: 4 3; }
svg .line { fill: none; stroke-width: 1.7; stroke-linejoin: round; }
svg .line.reference { stroke: var(--soft); stroke-dasharray: 4 3; } svg rect.reference { fill: var(--soft); }
figcaption, summary { color: var(--soft); font-size: .9rem; } figure { margin: 0; }
summary { cursor: pointer; padding: .2rem 0; } ul { padding-left: 1.2rem; }
@media print { body { max-width: none; } details { display: none; } svg, tr { break-inside: avoid; } }
]]

-- which states are good news and which are bad; all others are neither
local STATES = {
  ok = "good", met = "good", confirmed = "good", better = "good",
  oom = "bad", error = "bad", ["not met"] = "bad", refuted = "bad", worse = "bad",
}

local markdown, html = {}, {}

-- Text of others in Markdown: nothing in it may start markup, a row or a tag.
local function plain(text)
  return (tostring(text):gsub("[%c\127]+", " "):gsub("[\\`*<%[|]", "\\%0"))
end

function markdown.heading(b) return ("#"):rep(b.level) .. " " .. plain(b.text) .. "\n" end
function markdown.text(b) return plain(b.text) .. "\n" end

function markdown.list(b)
  local lines = {}
  for i, item in ipairs(b.items) do lines[i] = "- " .. plain(item) end
  return table.concat(lines, "\n") .. "\n"
end

local function length(text) return utf8.len(text) or #text end

function markdown.table(b)
  local width, grid = {}, table.move(b.rows, 1, #b.rows, 2, { b.header })
  for _, row in ipairs(grid) do
    for c = 1, #b.header do width[c] = math.max(width[c] or 3, length(plain(row[c] or ""))) end
  end
  local function is_right(c) return b.align and b.align:sub(c, c) == "r" end
  local function render(row)
    local cells = {}
    for c = 1, #b.header do
      local content = plain(row[c] or "")
      local pad = (" "):rep(width[c] - length(content))
      cells[c] = is_right(c) and pad .. content or content .. pad
    end
    return "| " .. table.concat(cells, " | ") .. " |"
  end
  local rule = {}
  for c = 1, #b.header do rule[c] = is_right(c) and ("-"):rep(width[c] - 1) .. ":" or ("-"):rep(width[c]) end
  local lines = { render(b.header), "| " .. table.concat(rule, " | ") .. " |" }
  for _, row in ipairs(b.rows) do lines[#lines + 1] = render(row) end
  return table.concat(lines, "\n") .. "\n"
end

function markdown.chart() return nil end -- figures are in the tables

-- Most details are in the HTML and the JSON alone.
function markdown.fold(b)
  if not b.everywhere then return nil end
  local parts = { plain(b.summary) .. "\n" }
  for _, block in ipairs(b.blocks) do parts[#parts + 1] = markdown[block.kind](block) end
  return table.concat(parts, "\n")
end

function html.heading(b) return ("<h%d>%s</h%d>\n"):format(b.level, svg.escape(b.text), b.level) end

function html.text(b)
  return ("<p%s>%s</p>\n"):format(b.class and (' class="%s"'):format(b.class) or "", svg.escape(b.text))
end

function html.chart(b)
  return "<figure>" .. b.svg .. (b.caption and "<figcaption>" .. svg.escape(b.caption) .. "</figcaption>" or "")
    .. "</figure>\n"
end

function html.list(b)
  local parts = {}
  for i, item in ipairs(b.items) do parts[i] = "<li>" .. svg.escape(item) .. "</li>" end
  return "<ul>" .. table.concat(parts) .. "</ul>\n"
end

local CLASSES = { r = ' class="right"', w = ' class="wrap"' }

local function cell(tag, align, content)
  local inside = svg.escape(content)
  if align == "s" and tag == "td" then
    inside = ('<span class="state %s">%s</span>'):format(STATES[content] or "", inside)
  end
  return ("<%s%s>%s</%s>"):format(tag, CLASSES[align] or "", inside, tag)
end

function html.table(b)
  local function cells(row, tag)
    local parts = {}
    for c = 1, #b.header do parts[c] = cell(tag, (b.align or ""):sub(c, c), row[c] or "") end
    return "<tr>" .. table.concat(parts) .. "</tr>\n"
  end
  local parts = { '<div class="scroll"><table><thead>', cells(b.header, "th"), "</thead><tbody>\n" }
  for _, row in ipairs(b.rows) do parts[#parts + 1] = cells(row, "td") end
  parts[#parts + 1] = "</tbody></table></div>\n"
  return table.concat(parts)
end

function html.fold(b)
  local parts = { "<details><summary>", svg.escape(b.summary), "</summary>\n" }
  for _, block in ipairs(b.blocks) do parts[#parts + 1] = html[block.kind](block) end
  parts[#parts + 1] = "</details>\n"
  return table.concat(parts)
end

--- The blocks as Markdown; charts and most folded details are left to the HTML, and so are headings of nothing else.
function document.markdown(blocks)
  local parts, below = {}, 0 -- below: the level of the heading that follows, past all where text does, 0 at the end
  for i = #blocks, 1, -1 do
    local block = blocks[i]
    local level = block.kind == "heading" and block.level
    local text = not (level and below <= level) and markdown[block.kind](block)
    if text then
      table.insert(parts, 1, text)
      below = level or math.huge
    end
  end
  return table.concat(parts, "\n")
end

--- The blocks as one HTML page, also well-formed XML, that needs nothing else: no script, no font, no network.
function document.html(title, blocks)
  local parts = { '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>',
                  '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
                  "<title>", svg.escape(title), "</title>\n<style>\n", STYLE, "</style></head><body>\n" }
  for _, block in ipairs(blocks) do parts[#parts + 1] = html[block.kind](block) end
  parts[#parts + 1] = "</body></html>\n"
  return table.concat(parts)
end

return document
