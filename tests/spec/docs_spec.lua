-- Documentation: every bound function and every public Lua function says what it does, where ?name finds it.
local core = require "wane.core"
local help = require "wane.help"
local modules = require "wane.modules"

-- names under a table of core, with the functions among them
local function functions(t)
  local names = {}
  for name, value in pairs(t) do
    if type(value) == "function" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function all_modules(prefix, found)
  for _, module in ipairs(modules.list(prefix)) do
    found[#found + 1] = module
    all_modules(module, found)
  end
  return found
end

describe("a bound function", function()
  for name, value in pairs(core) do
    if type(value) == "table" and name ~= "docs" and name ~= "error" then
      for _, f in ipairs(functions(value)) do
        it(("%s.%s says what it takes and gives"):format(name, f), function()
          local line = core.docs[name .. "." .. f]
          assert.equal("string", type(line))
          assert.matches("^" .. f:gsub("%p", "%%%0") .. "[%( {]", line)
          assert.is_nil(line:find("\n", 1, true))
          assert.is_true(#line <= 240, #line .. " letters: say it shorter")
        end)
      end
    elseif type(value) == "function" and name ~= "source" then
      it(name .. " says what it does", function() assert.is_truthy(core.docs["core." .. name]) end)
    end
  end

  it("of a type is documented as well", function()
    for key, value in pairs(debug.getregistry()) do
      local methods = type(key) == "string" and key:find("^wane%.") and type(value) == "table" and rawget(value, "methods")
      for name in pairs(methods or {}) do
        if name ~= "close" then
          assert.is_truthy(core.docs[key:gsub("^wane%.", "") .. "." .. name], key .. ":" .. name .. " has no line")
        end
      end
    end
  end)

  it("is not documented where it is not there", function()
    for key in pairs(core.docs) do
      local module, name = key:match("^(.*)%.([^.]+)$")
      local holder = module == "core" and core or core[module]
      local methods = debug.getregistry()["wane." .. module]
      local there = type(holder) == "table" and (holder[name] or holder.fields and holder.fields[name])
        or methods and (methods.methods or {})[name]
      assert.is_truthy(there or module == "edit", key .. " is documented and not there")
    end
  end)
end)

describe("a Lua module", function()
  for _, module in ipairs(all_modules("wane", { "wane" })) do
    local page = help.page(module)
    it(module .. " says what it is for", function()
      assert.is_truthy(page and page.text, "its first lines are no --- comment")
    end)
    local within_reach = not module:find("^wane%..+%.") -- wane.x.y is a part of wane.x
    for _, entry in ipairs(page and page.entries or {}) do
      if entry.public and within_reach then
        it(("%s: %s says what it does"):format(module, entry.signature), function()
          assert.is_truthy(entry.text, "it has no --- comment")
        end)
      end
    end
  end

  it("has its source at hand", function()
    local text, file = core.source "wane.json"
    assert.matches("^%-%-%- JSON", text)
    assert.matches("json%.lua$", file)
    assert.is_nil(core.source "wane.no_such_thing")
    assert.is_nil(core.source "os")
  end)

  it("can be loaded by itself", function()
    for _, module in ipairs(all_modules("wane", {})) do
      if not module:find("^wane%.commands") then assert.has_no.errors(function() require(module) end) end
    end
  end)
end)

describe("help", function()
  it("answers to every name that it has", function()
    for key in pairs(core.docs) do assert.matches("%S", help.about(key)) end
    for _, module in ipairs(modules.list "wane") do assert.matches("%S", help.about(module)) end
  end)
end)
