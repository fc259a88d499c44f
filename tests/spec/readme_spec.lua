-- The README's tables are those of the program.
describe("the README", function()
  it("has the tables that tests/readme.lua writes", function()
    local text = assert(io.open("README.md")):read("a")
    local filled = dofile("tests/readme.lua")(text)
    assert.equal(filled, text)
  end)
  it("names files that are there", function()
    local text = assert(io.open("README.md")):read("a")
    for path in text:gmatch("`([%l_]+/[%w_./]+%.%l+)`") do
      if not path:find("^runs/") and not path:find("^build/") then
        local file = io.open(path)
        assert.is_truthy(file, path)
        file:close()
      end
    end
  end)
end)

describe("the README's recipe", function()
  it("is examples/smaller.lua", function()
    local text = assert(io.open("README.md")):read("a")
    assert.equal(assert(io.open("examples/smaller.lua")):read("a"), text:match("```lua\n(.-)```"))
  end)
end)
