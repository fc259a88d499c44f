-- bench.lua: how fast this machine quantizes and runs models of true shape, beside what it can do at most.
--   wane recipes/bench.lua [--models Qwen3-4B,Qwen3-1.7B] [--parts quantize,run,questions] [--out bench]
-- Weights are of chance (wane synth), written to --folder where they are not there yet. bench.md and bench.json are
-- written again after each row, so that what was measured stays; with --add rows are added to those of a run before,
-- so that each part can be given its time. Rates are medians of interleaved runs. The variable WANE_COMMIT, where it is
-- set, is kept with them. Of parts, small is a budget that nothing fits, after which the next model is quantized.
local wane = require "wane"
local core = wane.core

local o = wane.options.arguments("bench.lua", {
  { name = "models", kind = "list", default = { "Qwen3-4B", "Llama-3.2-3B", "Qwen3-1.7B" }, doc = "shapes" },
  { name = "parts", kind = "list", of = "one of", choices = { "quantize", "small", "run", "questions" },
    default = { "run", "questions", "quantize", "small" }, doc = "what is measured" },
  { name = "methods", kind = "list", of = "one of", choices = { "gptq", "awq", "hqq", "smoothquant", "smoothquant-w4" },
    default = { "gptq", "awq", "hqq", "smoothquant", "smoothquant-w4" }, doc = "which methods" },
  { name = "folder", kind = "string", default = "out/bench", doc = "where the models are, or are written" },
  { name = "layers", kind = "integer", least = 1, doc = "so many, not as many as a model has: for a quick look" },
  { name = "tokenizer", kind = "string", default = "examples/models/lune-5m", doc = "folder of the models' tokenizer" },
  { name = "device", kind = "string", default = "auto", doc = "cpu, cuda or auto" },
  { name = "memory", kind = "list", of = "bytes", doc = "most that may lie on the device while quantizing: each" },
  { name = "samples", kind = "integer", default = 128, least = 1, doc = "calibration texts" },
  { name = "length", kind = "integer", default = 2048, least = 16, doc = "tokens of each, and of prompts to read" },
  { name = "group_size", kind = "integer", default = 128, doc = "columns that share a scale" },
  { name = "batches", kind = "list", of = "integer", default = { 1, 64 }, doc = "answers at once" },
  { name = "prompts", kind = "integer", default = 16, least = 1, doc = "prompts that are read at once" },
  { name = "context", kind = "integer", default = 128, least = 1, doc = "tokens before each answer" },
  { name = "tokens", kind = "integer", default = 128, least = 2, doc = "tokens of each answer" },
  { name = "beside", kind = "string", doc = "pipes BESIDE.ask and BESIDE.answer of tests/gpu/generate_plain.py" },
  { name = "beside_runs", kind = "integer", default = 5, least = 1, doc = "of those runs, how many it takes part in" },
  { name = "beside_tokens", kind = "integer", default = 128, least = 2, doc = "tokens that it writes" },
  { name = "runs", kind = "integer", default = 5, least = 1, doc = "interleaved runs of each rate" },
  { name = "data", kind = "string", default = "examples/data", doc = "folder with TASK.test.jsonl, for the questions" },
  { name = "questions", kind = "integer", default = 200, least = 1, doc = "of each of arc, squad_v2 and openmath" },
  { name = "forced", kind = "integer", default = 100, least = 1, doc = "tokens of each answer to them" },
  { name = "out", kind = "string", default = "bench", doc = "OUT.md and OUT.json" },
  { name = "add", kind = "boolean", default = false, doc = "to what is in OUT.json" },
}, arg)

local page = { date = os.date("!%Y-%m-%d"), version = wane.version, commit = os.getenv "WANE_COMMIT", limits = {},
               quantize = core.json.array {}, run = core.json.array {} }
if o.add and core.files.kind(o.out .. ".json") then page = core.json.load(o.out .. ".json") end
local GIB <const> = 1 << 30

local function has(part)
  for _, name in ipairs(o.parts) do
    if name == part then return true end
  end
end

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  return sorted[(#sorted + 1) // 2]
end

local function percent(part, whole) return ("%.0f %%"):format(100 * part / whole) end

-- a count with commas
local function count(x)
  local text = ("%.0f"):format(x):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (text:gsub("^,", ""))
end

-- What was measured so far, as Markdown.
local function markdown()
  local commit = page.commit and ", commit " .. page.commit or ""
  local lines = { ("# %s, %s, wane %s%s"):format(page.device, page.date, page.version, commit), "" }
  local function add(format, ...) lines[#lines + 1] = format:format(...) end
  local l = page.limits
  if l.read then
    add("Measured in the same run: reads %.0f GB/s, copies %.0f GB/s, a product of side %d at %s GFLOP/s.",
      l.read / 1e9, l.copy / 1e9, l.side, count(l.product / 1e9))
  end
  if page.quantize[1] then
    add("\n| quantizing | tokens | memory | seconds | peak GiB | planned | error | rounding's |")
    add("|---|---|---|---|---|---|---|---|")
    for _, r in ipairs(page.quantize) do
      local of = r.memory and ("%.3g GiB"):format(r.memory / GIB) or ""
      local name = r.layers and ("%s, %d layers"):format(r.model, r.layers) or r.model
      if r.error then
        add("| %s %s | %s | %s | %.1f | %.2f | %.2f | %.4f | %.4f |", name, r.label, r.tokens, of, r.seconds,
          r.peak / GIB, r.planned / GIB, r.error, r.rtn_error)
      else
        local asked, free = wane.bytes(r.requested or 0), wane.bytes(r.free or 0)
        local why = ("%s, %s asked for, %s free"):format(r.failed, asked, free)
        add("| %s %s | %s | %s | %.2f: %s | %.2f | | | |", name, r.label, r.tokens, of, r.seconds, why, r.peak / GIB)
      end
    end
  end
  if page.run[1] then
    add("\n| running | tokens/s | of the limit | GiB |\n|---|---|---|---|")
    for _, r in ipairs(page.run) do
      add("| %s, %s | %s | %s | %.2f |", r.model, r.what, count(r.rate), r.share or "", r.bytes / GIB)
    end
  end
  if page.questions then
    local q = page.questions
    add("\n%d questions, %s, %d tokens each: %.1f s (%s tokens/s written, %s tokens read).", q.count, q.model,
      q.forced, q.seconds, count(q.written / q.seconds), count(q.read))
  end
  return table.concat(lines, "\n") .. "\n"
end

local function keep()
  core.files.write(o.out .. ".md", markdown())
  core.files.write(o.out .. ".json", core.json.encode(page, { indent = 2 }) .. "\n")
end

local function folder_of(name)
  local dir = ("%s/%s%s"):format(o.folder, name, o.layers and "-" .. o.layers or "")
  if core.files.kind(dir) then return dir end
  core.files.mkdir(o.folder)
  local done = wane.synth(name, dir, { layers = o.layers, tokenizer = o.tokenizer })
  wane.progress.say(("%s: %s written in %.1f s"):format(name, wane.bytes(done.bytes), done.seconds))
  return dir
end

-- Texts of chance words, each longer than it need be.
local function calibration()
  local texts = {}
  for i = 1, o.samples do
    local words = wane.tensor.random({ 2 * o.length }, { seed = i, device = "host" }):numbers()
    for k, x in ipairs(words) do words[k] = ("%d"):format(x * 1e6 // 1 | 0) end
    texts[i] = table.concat(words, " ")
  end
  return wane.calibration { texts = texts, samples = o.samples, tokens = o.length, force = true }
end

local function plan_of(method)
  if method == "smoothquant" then return wane.smoothquant() end
  local name = method:match "^%l+"
  return wane[name] { bits = 4, group_size = o.group_size, activation_bits = name == "smoothquant" and 16 or nil }
end

-- From opening the folder to the saved result, on a device opened for it.
local function quantize(name, method, memory, set)
  local dir, out = folder_of(name), ("%s/result-%d"):format(o.folder, core.system.machine().pid)
  local row = { model = name, method = method, memory = memory, layers = o.layers, group_size = o.group_size,
                tokens = method == "hqq" and "none" or ("%d x %d"):format(o.samples, o.length) }
  local began
  collectgarbage()
  local ok, err = pcall(function()
    wane.device { name = o.device, memory = memory }
    row.live = core.device.live()
    began = core.clock()
    local plan = plan_of(method)
    row.label = tostring(plan)
    local model <close> = wane.load(dir)
    local small <close> = wane.quantize(model, plan, set, { out = out, prove = false,
                                                              progress = wane.progress.bar(name .. " " .. method) })
    row.error, row.rtn_error = small.quantization.error, small.quantization.rtn_error
    row.fallbacks, row.planned = small.quantization.fallbacks, small.quantization.planned_bytes
  end)
  row.seconds, row.peak = core.clock() - began, core.device.info().peak
  if core.files.kind(out) then core.files.remove(out) end
  if not ok then
    row.failed, row.message, row.label = err.code or "error", tostring(err), row.label or method
    row.requested, row.free = err.requested, err.free
    err = nil -- luacheck: ignore 311
    collectgarbage()
    row.live_after = core.device.live()
  end
  page.quantize[#page.quantize + 1] = row
  wane.progress.say(("%s %s: %.1f s%s"):format(name, row.label, row.seconds, ok and "" or ", " .. row.message))
  keep()
end

-- A rate that the program behind the pipes measures here and now.
local pipes
local function plain(request)
  pipes = pipes or { ask = assert(io.open(o.beside .. ".ask", "w")), answer = assert(io.open(o.beside .. ".answer")) }
  pipes.ask:write(core.json.encode(request), "\n")
  pipes.ask:flush()
  return core.json.decode(pipes.answer:read "l" or error(o.beside .. ".answer: no answer")).rate
end

-- Bytes of weights that a step reads: of an embedding that is not the head, only single rows.
local function step_bytes(model)
  local c = model.config
  return model.bytes - (c.tie_word_embeddings and 0 or 2 * c.vocab_size * c.hidden_size)
end

-- Both forms of a model, on the device together, and another program beside them, in turns.
local function run(name)
  local device = wane.device { name = o.device }
  local model <close> = wane.load(folder_of(name))
  local small <close> = wane.quantize(model, wane.rtn { bits = 4, group_size = o.group_size }, nil, { prove = false })
  local forms = { { what = "bf16", model = model }, { what = "w4 g" .. o.group_size, model = small } }
  local limits, rates, order, others = {}, {}, {}, {}
  for _ = 1, o.runs do
    limits[#limits + 1] = core.device.limits()
    for _, form in ipairs(forms) do
      local rows = wane.bench(form.model, { prompt = o.length, prompts = o.prompts, context = o.context,
                                            tokens = o.tokens, batches = o.batches, runs = 1 })
      for _, row in ipairs(rows) do
        local what = row.kind == "prompt" and ("%s reads %d x %d"):format(form.what, row.batch, o.length)
          or ("%s writes, batch %d"):format(form.what, row.batch)
        if not rates[what] then
          order[#order + 1] = { what = what, row = row, form = form }
          rates[what] = {}
        end
        table.insert(rates[what], row.rate)
      end
    end
    if o.beside and #others < o.beside_runs then
      others[#others + 1] = plain { model = folder_of(name), batch = 1, context = o.context, tokens = o.beside_tokens }
    end
  end
  for _, key in ipairs { "read", "copy", "product", "side" } do
    local list = {}
    for i, l in ipairs(limits) do list[i] = l[key] end
    page.limits[key] = median(list)
  end
  local reads = math.max(page.limits.read, page.limits.copy)
  local c = model.config
  local linears = model.parameters - (c.tie_word_embeddings and 1 or 2) * c.vocab_size * c.hidden_size
  for _, item in ipairs(order) do
    local r = { model = name, what = item.what, rate = median(rates[item.what]), rates = rates[item.what],
                bytes = item.form.model.bytes, device = device.description, context = o.context,
                tokens = o.tokens }
    if item.row.kind == "prompt" then
      r.share = percent(r.rate * 2 * linears, page.limits.product) .. " of the product"
    elseif item.row.batch == 1 then
      r.share = percent(r.rate * step_bytes(item.form.model), reads) .. " of the reads"
    end
    page.run[#page.run + 1] = r
  end
  if others[1] then
    page.run[#page.run + 1] = { model = name, what = "bf16 writes by Transformers, batch 1", rate = median(others),
                                rates = others, bytes = model.bytes, device = device.description,
                                tokens = o.beside_tokens }
  end
  keep()
end

-- Real questions, answers of a forced length.
local function questions(name)
  local tasks = require "wane.tasks"
  wane.device { name = o.device }
  local model <close> = wane.load(folder_of(name))
  local small <close> = wane.quantize(model, wane.rtn { bits = 4, group_size = o.group_size }, nil, { prove = false })
  small:load()
  local began, prompts, read, written = core.clock(), {}, 0, 0
  for _, set in ipairs { "arc", "squad_v2", "openmath" } do
    local task = tasks.get(set)
    for i, record in ipairs((tasks.read(o.data, task))) do
      if i > o.questions then break end
      local text = small.tokenizer:chat({ { role = "system", content = task.system },
                                          { role = "user", content = task.user(record) } },
                                        { add_generation_prompt = true, enable_thinking = false })
      prompts[#prompts + 1] = small.tokenizer:encode(text)
      read = read + #prompts[#prompts]
    end
  end
  for _, one in ipairs(core.generate.answers(small, prompts, { max_tokens = o.forced, stop = { -1 } })) do
    written = written + one.tokens
  end
  page.questions = { model = name .. " w4 g" .. o.group_size, count = #prompts, forced = o.forced, read = read,
                     written = written,
                     seconds = core.clock() - began }
  keep()
end

page.device = wane.device { name = o.device }.description
page.machine = core.system.machine()
if not page.limits.read then page.limits = core.device.limits() end
keep()
local set = (has "quantize" or has "small") and calibration()
if has "run" then
  for _, name in ipairs(o.models) do run(name) end
end
if has "questions" then questions(o.models[#o.models]) end
if has "quantize" then
  for _, memory in ipairs(o.memory or { false }) do
    for _, name in ipairs(o.models) do
      for _, method in ipairs(o.methods) do quantize(name, method, memory or nil, method ~= "hqq" and set or nil) end
    end
  end
end
if has "small" then
  -- too little for anything: an error before a weight is read, after which the next model of the same process runs
  quantize(o.models[1], "gptq", GIB // 2, set)
  quantize(o.models[#o.models], "hqq", nil, nil)
end
io.write(markdown())
