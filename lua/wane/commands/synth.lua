--- wane synth NAME DIR: a checkpoint of true shape with random weights, for measuring.
local core = require "wane.core"
local synth = require "wane.synth"

return {
  summary = "write a model of true shape with random weights",
  arguments = { { name = "name", doc = "one of " .. table.concat(synth.names, ", ") },
                { name = "dir", doc = "folder to write" } },
  options = synth.options,
  json = true,
  run = function(o)
    local done = synth(o.name, o.dir, { seed = o.seed, layers = o.layers, tokenizer = o.tokenizer,
                                        shard_bytes = o.shard_bytes })
    if o.json then
      print(core.json.encode(done, { indent = 2 }))
    else
      print(("%s: %s in %.1f s"):format(done.dir, core.device.format_bytes(done.bytes), done.seconds))
    end
    return 0
  end,
}
