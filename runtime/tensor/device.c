/* device.c - see device.h. Opens a backend, counts what it allocates against a budget, and turns
 * statuses of slots into errors.
 *
 * A backend works in scratch memory that is given to it once, at open. It counts as live from then
 * on: a sixteenth of the budget, at least 1.25 MiB (CUDA: 4 MiB), at most 640 KiB for each
 * processor of the machine and one more (the CPU's threads cannot use more), or 256 MiB for CUDA.
 *
 * The CUDA backend is a shared object of its own, so that this one starts where no CUDA is. */
#include "runtime/tensor/device.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/units.h"

static const uint64_t SCRATCH_LEAST_CUDA = 4 << 20, SCRATCH_MOST_CUDA = 256 << 20;
static const uint64_t SCRATCH_THREAD = 640 << 10;
static const char CUDA_FILE[] = "libwane_cuda.so";

/* The folder of the file this code was loaded from, with its last slash; "" where unknown. */
static void own_folder(char *out, size_t size)
{
    Dl_info here;
    const char *path = dladdr(CUDA_FILE, &here) ? here.dli_fname : NULL;
    char whole[4096];
    /* the loader names an executable as it was started: a bare name says nothing of the folder */
    if (!path || !strchr(path, '/')) {
        ssize_t n = readlink("/proc/self/exe", whole, sizeof whole - 1);
        whole[n > 0 ? n : 0] = 0;
        path = whole;
    }
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + 1 : 0;
    if (length >= size) length = 0;
    memcpy(out, path, length);
    out[length] = 0;
}

/* The CUDA table, or NULL with the reason; *there: its file is. The object stays loaded for the
 * process's life: CUDA's own libraries do not survive being unloaded. */
static const wane_kernels *cuda_kernels(char *why, size_t size, bool *there)
{
    static const char *const places[] = {"", "../", "../lib/", "../lib/wane/"};
    char folder[3072], path[4096];
    void *library = NULL;
    own_folder(folder, sizeof folder);
    *there = true;
    for (size_t i = 0; i <= sizeof places / sizeof *places && !library; i++) {
        if (i < sizeof places / sizeof *places) {
            if (!folder[0]) continue;
            snprintf(path, sizeof path, "%s%s%s", folder, places[i], CUDA_FILE);
            if (access(path, F_OK)) continue;
        } else {
            snprintf(path, sizeof path, "%s", CUDA_FILE);
        }
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (library) break;
        /* one that is there and does not load is the reason to tell */
        const char *text = dlerror();
        snprintf(why, size, "%s", text ? text : "dlopen failed");
        if (i < sizeof places / sizeof *places) return NULL;
    }
    if (!library) {
        *there = false;
        snprintf(why, size,
                 "this build has no CUDA backend (no %s beside it); build with nvcc found",
                 CUDA_FILE);
        return NULL;
    }
    const wane_kernels *(*table)(void) = NULL;
    *(void **)&table = dlsym(library, "wane_cuda_kernels");
    const wane_kernels *k = table ? table() : NULL;
    if (!k)
        snprintf(why, size, "%.256s holds no table of kernels; reinstall wane", path);
    else if (k->abi != WANE_KERNELS_ABI)
        snprintf(why, size, "%.256s is of another version (%" PRIu32 ", not %u); reinstall wane",
                 path, k->abi, WANE_KERNELS_ABI);
    else
        return k;
    dlclose(library);
    return NULL;
}

static wane_status out_of_memory(const wane_device *d, uint64_t bytes, uint64_t free, wane_err *e)
{
    char asked[24], left[24], all[24];
    wane_bytes_format(asked, sizeof asked, bytes);
    wane_bytes_format(left, sizeof left, free);
    wane_bytes_format(all, sizeof all, d->budget);
    const char *knob = strcmp(d->name, "host") ? "memory" : "host_memory";
    if (d->budget == UINT64_MAX)
        wane_fail(e, WANE_EOOM,
                  "%s: out of memory: %s asked for, %s free; take a smaller model or batch",
                  d->name, asked, left);
    else
        wane_fail(
            e, WANE_EOOM,
            "%s: out of memory: %s asked for, %s of %s free; raise %s = or take a smaller model",
            d->name, asked, left, all, knob);
    if (e) {
        e->requested = bytes;
        e->free = free;
        snprintf(e->device, sizeof e->device, "%s", d->name);
        snprintf(e->op, sizeof e->op, "alloc");
    }
    return WANE_EOOM;
}

static wane_status device_error(const char *name, const char *why, wane_err *e)
{
    char shown[512];
    wane_escape(shown, sizeof shown, why, strlen(why));
    wane_fail(e, WANE_EDEVICE, "%s: cannot open: %s", name, shown);
    if (e) snprintf(e->device, sizeof e->device, "%s", name);
    return WANE_EDEVICE;
}

/* A device over a table; name is taken as it is. */
static wane_status open_table(const char *name, const wane_kernels *k, int index, uint64_t budget,
                              wane_device **out, wane_err *e)
{
    char why[256] = "";
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t least = SCRATCH_LEAST_CUDA, most = SCRATCH_MOST_CUDA, scratch = budget / 16;
    if (k == wane_cpu_kernels()) {
        least = 2 * SCRATCH_THREAD;
        most = SCRATCH_THREAD * (1 + (uint64_t)(processors > 1 ? processors : 1));
    }
    if (scratch > most) scratch = most;
    if (scratch < least) scratch = least;
    wane_device *d = calloc(1, sizeof *d);
    if (!d) return wane_fail(e, WANE_EOOM, "%s: no host memory to open it", name);
    snprintf(d->name, sizeof d->name, "%s", name);
    d->refs = 1;
    d->k = k;
    d->budget = budget;
    d->fail_after = -1;
    d->fail_times = 1;
    wane_status s;
    if (scratch > budget) {
        s = out_of_memory(d, scratch, budget, e);
    } else {
        s = k->open(index, (size_t)scratch, &d->dev, why);
        if (s == WANE_EOOM) {
            out_of_memory(d, scratch, 0, e);
            if (e && why[0]) snprintf(e->message, sizeof e->message, "%s: %s", name, why);
        } else if (s)
            s = device_error(name, why[0] ? why : "the backend did not say why", e);
    }
    if (s) {
        free(d);
        return s;
    }
    d->scratch = d->live = d->peak = scratch;
    *out = d;
    return WANE_OK;
}

static wane_status open_cuda(int index, uint64_t budget, wane_device **out, bool *there,
                             wane_err *e)
{
    char name[32], why[512] = "";
    snprintf(name, sizeof name, "cuda:%d", index);
    const wane_kernels *k = cuda_kernels(why, sizeof why, there);
    if (!k) return device_error(name, why, e);
    return open_table(name, k, index, budget, out, e);
}

/* Whether anything here speaks of an NVIDIA GPU: its driver, or its device files without one. */
static bool machine_has_nvidia(void)
{
    return !access("/proc/driver/nvidia", F_OK) || !access("/dev/nvidiactl", F_OK);
}

/* The first GPU, or else the CPU, which says why where a GPU could be expected. */
static wane_status open_best(uint64_t budget, wane_device **out, wane_err *e)
{
    wane_err gpu;
    bool built;
    if (!open_cuda(0, budget, out, &built, &gpu)) return WANE_OK;
    wane_status s = open_table("cpu", wane_cpu_kernels(), 0, budget, out, e);
    if (!s && (built || machine_has_nvidia()))
        snprintf((*out)->no_gpu, sizeof(*out)->no_gpu, "%.255s", gpu.message);
    return s;
}

wane_status wane_device_open(const char *name, uint64_t budget, wane_device **out, wane_err *e)
{
    *out = NULL;
    if (!strcmp(name, "cpu") || !strcmp(name, "host"))
        return open_table(name, wane_cpu_kernels(), 0, budget, out, e);
    if (!strcmp(name, "auto")) return open_best(budget, out, e);
    bool there;
    if (!strcmp(name, "cuda")) return open_cuda(0, budget, out, &there, e);
    if (!strncmp(name, "cuda:", 5)) {
        size_t digits = strspn(name + 5, "0123456789");
        if (digits > 0 && digits < 4 && !name[5 + digits])
            return open_cuda(atoi(name + 5), budget, out, &there, e);
    }
    char shown[64];
    wane_escape(shown, sizeof shown, name, strlen(name));
    return wane_fail(e, WANE_EARG, "no device is called \"%s\"; use auto, cpu, cuda or cuda:1",
                     shown);
}

wane_device *wane_device_retain(wane_device *d)
{
    d->refs++;
    return d;
}

void wane_device_release(wane_device *d)
{
    if (!d || --d->refs > 0) return;
    d->k->close(d->dev);
    free(d);
}

/* Whether a test wants this allocation to fail. */
static bool injected(wane_device *d)
{
    if (d->fail_after < 0) return false;
    if (d->fail_after > 0) return d->fail_after--, false;
    if (d->fail_times > 0 && --d->fail_times == 0) d->fail_after = -1, d->fail_times = 1;
    return true;
}

wane_status wane_device_alloc(wane_device *d, uint64_t bytes, void **out, wane_err *e)
{
    *out = NULL;
    if (bytes == 0) return WANE_OK;
    d->allocations++;
    if (injected(d) || bytes > d->budget - d->live)
        return out_of_memory(d, bytes, wane_device_room(d), e);
    wane_status s = d->k->alloc(d->dev, (size_t)bytes, out);
    if (s) {
        *out = NULL;
        if (s == WANE_EOOM) return out_of_memory(d, bytes, wane_device_room(d), e);
        return wane_device_check(d, s, "alloc", e);
    }
    d->live += bytes;
    if (d->live > d->peak) d->peak = d->live;
    return WANE_OK;
}

void wane_device_free(wane_device *d, void *p, uint64_t bytes)
{
    if (!p) return;
    d->k->free(d->dev, p);
    d->live -= bytes;
}

uint64_t wane_device_room(const wane_device *d)
{
    wane_dev_info info = {0};
    d->k->info(d->dev, &info);
    uint64_t room = d->budget - d->live;
    return info.free && info.free < room ? info.free : room;
}

void wane_device_reset_peak(wane_device *d)
{
    d->peak = d->live;
}

wane_status wane_device_poll(const wane_device *d, wane_err *e)
{
    if (!d->interrupt || !atomic_load_explicit(d->interrupt, memory_order_relaxed)) return WANE_OK;
    wane_fail(e, WANE_EINTERRUPTED, "stopped, as asked; what was finished is kept");
    if (e) snprintf(e->device, sizeof e->device, "%s", d->name);
    return WANE_EINTERRUPTED;
}

wane_status wane_device_check(const wane_device *d, wane_status s, const char *op, wane_err *e)
{
    static const char *const what[] = {
        [WANE_EARG] = "shapes or dtypes do not fit the operation",
        [WANE_EOOM] = "out of memory; raise memory = or take a smaller batch",
        [WANE_EIO] = "input or output failed",
        [WANE_EFORMAT] = "the data is not what it claims to be",
        [WANE_EUNSUPPORTED] = "this device does not do that for these shapes and dtypes",
        [WANE_ENUMERIC] = "NaN, Inf or a matrix that is not positive definite",
        [WANE_ENETWORK] = "the network failed",
        [WANE_EDEVICE] =
            "the device failed and stays unusable until this process ends; start it again",
        [WANE_EINTERRUPTED] = "stopped, as asked",
    };
    if (s == WANE_OK) return s;
    const char *text = (size_t)s < sizeof what / sizeof *what ? what[s] : "an unknown status";
    wane_fail(e, s, "%s: %s: %s", d->name, op, text);
    if (e) {
        snprintf(e->device, sizeof e->device, "%s", d->name);
        snprintf(e->op, sizeof e->op, "%s", op);
        if (s == WANE_EOOM) e->free = wane_device_room(d);
    }
    return s;
}
