--- wane doctor: what wane finds on this machine, and what is missing for what.
local core = require "wane.core"
local hub = require "wane.hub"

-- device name -> its info, or nil and why not
local function try_device(name)
  local ok, err = pcall(core.device.open, name)
  if not ok then return nil, tostring(err) end
  return core.device.info()
end

-- the version of NVIDIA's driver, or nil where none is loaded
local function driver_version()
  local file = io.open("/proc/driver/nvidia/version")
  if not file then return nil end
  local line = file:read "l" or ""
  file:close()
  return line:match "%d+%.[%d.]+" or line
end

-- of an opened device what the page shows; a GPU's name comes from its driver
local function describe(info)
  return info and { name = info.name, description = info.description, total = info.total, free = info.free,
                    processors = info.threads }
end

local function examine(wanted)
  local machine = core.system.machine()
  local cuda, why = try_device "cuda"
  cuda = describe(cuda)
  local chosen, wrong = try_device(wanted)
  local settings = hub.settings()
  return {
    version = core.version, lua = _VERSION, host = machine.host, processors = machine.processors,
    memory = machine.memory, memory_free = machine.memory_free, blas = machine.blas,
    device = describe(chosen), device_error = wrong, wane_device = os.getenv "WANE_DEVICE",
    cuda = cuda, cuda_error = why, driver = driver_version(),
    disk_free = core.system.disk_free ".", cache = settings.cache, hub_token = settings.token ~= nil,
    hub = pcall(core.hub.open, {}),
    argparse = package.loaded.argparse ~= nil, -- what reads the flags of commands, this one's too
  }
end

local function print_page(page)
  local size = core.device.format_bytes
  local function row(name, text) print(("%-9s %s"):format(name, text)) end
  row("wane", ("%s, %s"):format(page.version, page.lua))
  row("device", page.device and ("%s: %s"):format(page.device.name, page.device.description) or page.device_error)
  if page.wane_device then row("", ("WANE_DEVICE=%s says what auto is"):format(page.wane_device)) end
  if page.cuda then
    row("gpu", ("%s: %s free of %s, %d multiprocessors"):format(page.cuda.description, size(page.cuda.free),
      size(page.cuda.total), page.cuda.processors))
  else
    row("gpu", "not used: " .. page.cuda_error:gsub("^cuda:0: cannot open: ", ""))
  end
  row("driver", page.driver and "NVIDIA " .. page.driver or "no NVIDIA driver is loaded")
  row("memory", ("%s free of %s, %d processors"):format(size(page.memory_free), size(page.memory), page.processors))
  row("blas", page.blas)
  row("disk", page.disk_free and size(page.disk_free) .. " free here" or "unknown")
  row("models", ("%s, token %s"):format(page.cache or "no cache folder: HOME is not set",
    page.hub_token and "present" or "absent"))
  if not page.hub then row("", "built without libcurl: nothing can be fetched") end
end

return {
  summary = "show what this machine has: device, memory, libraries",
  options = { { name = "device", kind = "device", default = "auto", doc = "which one must work: auto, cpu, cuda" } },
  json = true,
  run = function(o)
    local page = examine(o.device)
    if o.json then print(core.json.encode(page, { indent = 2 })) else print_page(page) end
    return page.device and 0 or 7
  end,
}
