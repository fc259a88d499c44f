--- wane get ID[@REVISION]: a model's files from the Hugging Face Hub, into the cache or a folder.
local core = require "wane.core"
local hub = require "wane.hub"

-- what a person at a terminal sets; the rest is for scripts
local FLAGS = { to = true, verify = true, offline = true, retries = true, parallel = true, weights = true }
local spec = {}
for _, entry in ipairs(hub.spec) do
  if FLAGS[entry.name] then spec[#spec + 1] = entry end
end

return {
  summary = "fetch a model from the Hugging Face Hub",
  arguments = { { name = "model", doc = "ORG/NAME, or ORG/NAME@REVISION: a branch, a tag or a commit" } },
  options = spec,
  json = true,
  run = function(o)
    local given = {}
    for _, entry in ipairs(spec) do given[entry.name] = o[entry.name] end
    local found = hub.get(o.model, given)
    if o.json then
      print(core.json.encode(found, { indent = 2 }))
      return 0
    end
    print(found.dir)
    require "wane.progress".say(("%s at %s: %d files, %s; %s fetched in %.1f s"):format(found.id,
      found.commit:sub(1, 12), #found.files, core.device.format_bytes(found.bytes),
      core.device.format_bytes(found.received), found.seconds))
    return 0
  end,
}
