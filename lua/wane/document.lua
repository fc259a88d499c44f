--- A report before it is a page: a list of blocks, written as Markdown or as one self-contained HTML file.
-- Blocks: { kind = "heading", level, text }, { kind = "text", text }, { kind = "table", header, rows, align },
-- { kind = "chart", svg, caption }, { kind = "list", items }, { kind = "fold", summary, blocks }.
local svg = require "wane.svg"

local document = {}

local STYLE = [[
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fdfdfb; --line: #d9d9d4; --soft: #6a6a66; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e2; --paper: #16171a; --line: #3a3b40; --soft: #a0a09a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td.right, th.right { text-align: right; font-variant-numeric: tabular-nums; }
td.wrap { white-space: normal; min-width: 14rem; }
svg { max-width: 100%; height: auto; margin: .6rem 0; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg text.title { font-weight: 600; font-size: 14px; } svg text.small { font-size: 11px; }
svg .grid { stroke: var(--line); } svg .whisker { stroke-width: 2; }
svg .line { fill: none; stroke-width: 1.6; } figcaption, summary { color: var(--soft); }
figure { margin: 0; } summary { cursor: pointer; }
]]

local markdown, html = {}, {}

local function cell_text(text) return (tostring(text):gsub("|", "\\|"):gsub("[\r\n]+", " ")) end

function markdown.heading(b) return ("#"):rep(b.level) .. " " .. b.text .. "\n" end
function markdown.text(b) return b.text .. "\n" end

function markdown.list(b)
  local lines = {}
  for i, item in ipairs(b.items) do lines[i] = "- " .. item end
  return table.concat(lines, "\n") .. "\n"
end

function markdown.table(b)
  local width, grid = {}, { b.header }
  table.move(b.rows, 1, #b.rows, 2, grid)
  for _, row in ipairs(grid) do
    for c = 1, #b.header do
      width[c] = math.max(width[c] or 3, utf8.len(cell_text(row[c] or "")) or #cell_text(row[c] or ""))
    end
  end
  local function render(row)
    local cells = {}
    for c = 1, #b.header do
      local content = cell_text(row[c] or "")
      local pad = (" "):rep(width[c] - (utf8.len(content) or #content))
      cells[c] = b.align and b.align:sub(c, c) == "r" and pad .. content or content .. pad
    end
    return "| " .. table.concat(cells, " | ") .. " |"
  end
  local rule = {}
  for c = 1, #b.header do
    rule[c] = b.align and b.align:sub(c, c) == "r" and ("-"):rep(width[c] - 1) .. ":" or ("-"):rep(width[c])
  end
  local lines = { render(b.header), "| " .. table.concat(rule, " | ") .. " |" }
  for _, row in ipairs(b.rows) do lines[#lines + 1] = render(row) end
  return table.concat(lines, "\n") .. "\n"
end

function markdown.chart() return nil end -- figures are in the tables
function markdown.fold() return nil end -- details are in the HTML and the JSON

function html.heading(b) return ("<h%d>%s</h%d>\n"):format(b.level, svg.escape(b.text), b.level) end
function html.text(b) return "<p>" .. svg.escape(b.text) .. "</p>\n" end
function html.chart(b)
  return "<figure>" .. b.svg .. (b.caption and "<figcaption>" .. svg.escape(b.caption) .. "</figcaption>" or "")
    .. "</figure>\n"
end

function html.list(b)
  local parts = {}
  for i, item in ipairs(b.items) do parts[i] = "<li>" .. svg.escape(item) .. "</li>" end
  return "<ul>" .. table.concat(parts) .. "</ul>\n"
end

function html.table(b)
  local function cells(row, tag)
    local parts = {}
    for c = 1, #b.header do
      local align = b.align and b.align:sub(c, c)
      local class = align == "r" and ' class="right"' or align == "w" and tag == "td" and ' class="wrap"' or ""
      parts[c] = ("<%s%s>%s</%s>"):format(tag, class, svg.escape(row[c] or ""), tag)
    end
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

--- The blocks as Markdown; charts and folded details are left to the HTML.
function document.markdown(blocks)
  local parts = {}
  for _, block in ipairs(blocks) do parts[#parts + 1] = markdown[block.kind](block) end
  return table.concat(parts, "\n")
end

--- The blocks as one HTML page that needs nothing else: no script, no font, no network.
function document.html(title, blocks)
  local parts = { '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
                  '<meta name="viewport" content="width=device-width, initial-scale=1">',
                  "<title>", svg.escape(title), "</title>\n<style>\n", STYLE, "</style></head><body>\n" }
  for _, block in ipairs(blocks) do parts[#parts + 1] = html[block.kind](block) end
  parts[#parts + 1] = "</body></html>\n"
  return table.concat(parts)
end

return document
