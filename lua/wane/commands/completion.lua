--- wane completion SHELL: a script that completes commands and flags.
return {
  summary = "print a completion script for bash, zsh or fish",
  arguments = { { name = "shell", doc = "bash, zsh or fish" } },
  options = {},
  run = function(o)
    local cli = require "wane.cli"
    local shells = { bash = "get_bash_complete", zsh = "get_zsh_complete", fish = "get_fish_complete" }
    local method = shells[o.shell] or require("wane.options").fail {
      code = "usage", message = ("there is no completion for %s; take bash, zsh or fish"):format(o.shell),
    }
    local parser = require "argparse"("wane")
    for _, name in ipairs(cli.commands()) do
      local command = cli.command(name)
      cli.fill(parser:command(name):summary(command.summary), command.raw and {} or command)
    end
    io.write(parser[method](parser))
  end,
}
