--- rendering.lua: one run of a template: its output, and what it may still spend.
--
-- A template is not trusted, so all it does is paid from one budget of steps: a step is four bytes of memory
-- (of text made by + ~ * join replace and their like, by slices and captured blocks; of lists and scopes) or
-- some 50 ns of work (an operation is about four, a pass of a loop twenty). So ten million steps take about half
-- a second and allocate 40 MB at most; what is large is paid before it is made. Output has its own limit, and
-- macros a depth. Every limit is an error object with the place in the template.
local errors = require "wane.template.errors"

local rendering = {}
rendering.__index = rendering

--- What a rendering may use.
rendering.limits = { steps = 10000000, output = 16 << 20, macros = 32, range = 1000000 }

local PIECES = 1024 -- joined into one block when so many are waiting

--- @param template { name, source }
-- @param clock as clock.read gives it
function rendering.new(template, clock)
  local limits = rendering.limits
  return setmetatable({
    template = template, clock = clock, at = 1, steps = limits.steps, left = limits.output, depth = 0,
    out = {}, n = 0, blocks = {}, charge = rendering.charge,
  }, rendering)
end

--- Raises an error object at the current place. @param code "format" where not given
function rendering:fail(why, code, fields)
  errors.at(self.template, self.at, code or "format", errors.escape(why, 500), fields)
end

local function limit(self, what) self:fail("the template exceeds " .. what, "unsupported") end

--- Pays `steps`.
function rendering:charge(steps)
  local left = self.steps - steps
  self.steps = left
  if left < 0 then limit(self, ("%d steps"):format(rendering.limits.steps)) end
end

--- Pays for a times b bytes (or items), `per` of them for a step.
function rendering:charge_product(a, b, per)
  local steps = 1.0 * a * b / per
  if steps > self.steps then steps = self.steps + 1 end
  self:charge(math.ceil(steps))
end

--- Pays for text that was made; gives it back.
function rendering:made(text)
  self:charge(#text >> 2)
  return text
end

--- Joins n pieces of text, paid before.
function rendering:join(pieces, separator, n)
  local bytes = #separator * math.max(n - 1, 0)
  for i = 1, n do
    bytes = bytes + #pieces[i]
  end
  self:charge(n + (bytes >> 2))
  return table.concat(pieces, separator, 1, n)
end

--- The first byte of `text` in s at or after `at`, or nil. Pays for the search, which Lua's plain find can
-- make quadratic in the worst case.
function rendering:find(s, text, at)
  local size = #s - at + 1
  if size > 0 and size * #text > 1 << 26 then self:charge(size * #text >> 10) end
  local found = s:find(text, at, true)
  self:charge(1 + (((found or #s) - at + 1) >> 4) * (1 + (#text >> 5)))
  return found
end

--- The last byte at which `text` starts in s, or nil.
function rendering:find_last(s, text)
  self:charge((#s + #text) >> 2)
  local found = self:find(s:reverse(), text:reverse(), 1)
  return found and #s - (found + #text - 1) + 1
end

--- Sorts n items in place; equal ones keep their order. @param less function(a, b)
function rendering:sort(items, n, less)
  self:charge(16 * n)
  local from, to = items, {}
  local width = 1
  while width < n do
    for start = 1, n, 2 * width do
      local i, middle, stop = start, math.min(start + width, n + 1), math.min(start + 2 * width, n + 1)
      local j = middle
      for k = start, stop - 1 do
        self:charge(2)
        if i < middle and (j >= stop or not less(from[j], from[i])) then
          to[k], i = from[i], i + 1
        else
          to[k], j = from[j], j + 1
        end
      end
    end
    from, to = to, from
    width = 2 * width
  end
  if from ~= items then table.move(from, 1, n, 1, items) end
end

local function flush(self)
  self.blocks[#self.blocks + 1] = table.concat(self.out, "", 1, self.n)
  self.n = 0
end

--- Writes text to the output.
function rendering:write(text)
  if text == "" then return end
  local left = self.left - #text
  self.left = left
  if left < 0 then limit(self, ("%d MiB of output"):format(rendering.limits.output >> 20)) end
  self:charge(1 + (#text >> 3))
  local n = self.n + 1
  self.n = n
  self.out[n] = text
  if n == PIECES then flush(self) end
end

--- Runs body(...) and gives what it wrote as text.
function rendering:capture(body, ...)
  local out, n, blocks, left = self.out, self.n, self.blocks, self.left
  self.out, self.n, self.blocks = {}, 0, {}
  self:charge(32)
  body(...)
  local text = self:text()
  self.out, self.n, self.blocks, self.left = out, n, blocks, left
  return self:made(text)
end

--- Goes one macro deeper; the caller takes one off `depth` when it is done.
function rendering:enter()
  self.depth = self.depth + 1
  if self.depth > rendering.limits.macros then
    limit(self, ("%d macros within each other"):format(rendering.limits.macros))
  end
end

--- All that was written.
function rendering:text()
  flush(self)
  return table.concat(self.blocks)
end

return rendering
