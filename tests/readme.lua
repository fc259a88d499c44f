-- readme.lua: fills the tables of the README from the tables in the program: build/wane tests/readme.lua [README.md]
-- Between <!-- begin NAME --> and <!-- end NAME --> stands what section.NAME() gives. readme_spec.lua fails where the
-- README is not what this would write.
local options = require "wane.options"
local wane = require "wane"

local section = {}

function section.methods()
  local lines = { "| method | what it does | source |", "|---|---|---|" }
  for _, m in ipairs(wane.methods()) do
    lines[#lines + 1] = ("| `wane.%s` | %s | %s |"):format(m.name, m.doc, m.paper)
  end
  return table.concat(lines, "\n")
end

-- options that most methods share first, then what each has besides, or means otherwise
function section.options()
  local all, count = wane.methods(), {}
  local function same(entry) return entry.name .. "\0" .. entry.doc end
  for _, m in ipairs(all) do
    for _, entry in ipairs(m.options) do count[same(entry)] = (count[same(entry)] or 0) + 1 end
  end
  local function shared(entry) return 2 * count[same(entry)] > #all end
  local function part(m, wanted)
    local list = {}
    for _, entry in ipairs(m.options) do
      if shared(entry) == wanted then list[#list + 1] = entry end
    end
    return list
  end
  local parts = { "Every method, but for what it says of its own:\n", options.markdown(part(all[1], true)) }
  for _, m in ipairs(all) do
    local own = part(m, false)
    if #own > 0 then parts[#parts + 1] = ("\n`wane.%s`:\n\n%s"):format(m.name, options.markdown(own)) end
  end
  return table.concat(parts, "\n")
end

function section.commands()
  local lines = { "| command | what it does |", "|---|---|" }
  for _, module in ipairs(require "wane.modules".list "wane.commands") do
    local name, command = module:match("[^.]+$"), require(module)
    lines[#lines + 1] = ("| `wane %s` | %s |"):format(name, command.summary)
  end
  return table.concat(lines, "\n")
end

function section.families()
  local lines = { "| model_type | norms of q and k | biases | heads where config.json does not say | sliding window |",
                  "|---|---|---|---|---|" }
  for _, f in ipairs(wane.core.check.families()) do
    lines[#lines + 1] = ("| `%s` | %s | %s%s | %s | %s |"):format(f.model_type, f.qk_norm and "yes" or "no", f.bias,
      f.mlp_bias and ", mlp_bias" or "", f.head_dim > 0 and f.head_dim .. " wide" or "hidden / heads", f.window)
  end
  return table.concat(lines, "\n")
end

function section.formats()
  local lines = { "| format | what it is |", "|---|---|" }
  for _, f in ipairs(wane.core.save.formats()) do lines[#lines + 1] = ("| `%s` | %s |"):format(f.name, f.doc) end
  return table.concat(lines, "\n")
end

--- The README with its sections filled in.
local function filled(text)
  return (text:gsub("(<!%-%- begin (%w+) %-%->\n).-(<!%-%- end %2 %-%->)", function(head, name, tail)
    return head .. assert(section[name], name)() .. "\n" .. tail
  end))
end

if arg and arg[0] and arg[0]:find("readme%.lua$") then
  local path = arg[1] or "README.md"
  wane.files.write(path, filled(wane.files.read(path)))
end

return filled
