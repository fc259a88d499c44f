-- listing.lua - what a server lists of a model; and the same text as a model's id.
local hub = require "wane.hub"

local function plain(name) return name:find "^%w[%w._-]*$" ~= nil and name ~= "" and not name:find "[/\\%c]" end

return function(input)
  local listing, why = hub.listing(input)
  if listing then
    assert(#listing.commit == 40 and not listing.commit:find "[^0-9a-f]", "commit")
    for name, f in pairs(listing.files) do
      assert(plain(name), "name")
      assert(f.size == nil or math.type(f.size) == "integer" and f.size >= 0, "size")
      assert(f.hash == nil or (#f.hash == 40 or #f.hash == 64) and not f.hash:find "[^0-9a-f]", "hash")
    end
  else
    assert(type(why) == "string", "why")
  end
  local id, revision = hub.parse(input)
  if id then
    local org, name = id:match "^([^/]+)/([^/]+)$"
    assert(plain(org) and plain(name) and not id:find("..", 1, true), "id")
    assert(revision ~= "" and not revision:find("..", 1, true) and not revision:find "^/" and not revision:find "[%c\\]", "revision")
  end
end
