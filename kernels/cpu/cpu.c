/* cpu.c - the CPU backend's table, its device, and memory.
 *
 * A device holds the scratch given at open and the inner loops for the best instruction set that
 * the processor has. The environment variable WANE_CPU = plain, avx2 or avx512 names another; one
 * that the processor lacks is refused.
 *
 * Threads are OpenMP's: OMP_NUM_THREADS at open says how many, and scratch too small for all of
 * them means fewer. Nothing here waits in a loop; whether idle threads spin between two slots is
 * the OpenMP runtime's own setting (OMP_WAIT_POLICY=passive: they sleep at once).
 *
 * Memory is the host's, so put, get and copy are memcpy, and sync has nothing to wait for. */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/compose.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* PAGE: a large one of the host's */
enum { ALIGNMENT = 256, PAGE = 2 << 20, WHY_BYTES = 256, BLAS_MIB = 132 };

static bool runs(const cpu_loops *loops)
{
#if defined(__x86_64__)
    unsigned a, b, c = 0, d; /* clang 14 does not know "f16c" by name */
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    if (loops == &cpu_loops_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni") && f16c;
    if (loops == &cpu_loops_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
#endif
    return loops == &cpu_loops_plain;
}

/* The best that runs here, or the one that WANE_CPU names; NULL, with the reason, if that fails. */
static const cpu_loops *choose(char *why)
{
    static const cpu_loops *const all[] = {&cpu_loops_avx512, &cpu_loops_avx2, &cpu_loops_plain};
    const char *wanted = getenv("WANE_CPU");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!wanted || !*wanted) {
            if (runs(all[i])) return all[i];
        } else if (!strcmp(wanted, all[i]->name)) {
            if (runs(all[i])) return all[i];
            snprintf(why, WHY_BYTES, "WANE_CPU=%s, but this processor has no %s: unset WANE_CPU",
                     all[i]->name, all[i]->label);
            return NULL;
        }
    }
    snprintf(why, WHY_BYTES, "WANE_CPU=%.32s is none of plain, avx2, avx512", wanted ? wanted : "");
    return NULL;
}

static void describe(wane_dev *d)
{
    char brand[49] = "CPU";
#if defined(__x86_64__)
    unsigned r[12];
    if (__get_cpuid(0x80000002, r, r + 1, r + 2, r + 3) &&
        __get_cpuid(0x80000003, r + 4, r + 5, r + 6, r + 7) &&
        __get_cpuid(0x80000004, r + 8, r + 9, r + 10, r + 11)) {
        memcpy(brand, r, 48);
        brand[48] = 0;
    }
#endif
    const char *start = brand + strspn(brand, " ");
    snprintf(d->name, sizeof d->name, "%s, %s, %d thread%s", start, d->loops->label, d->threads,
             d->threads == 1 ? "" : "s");
}

/* OpenBLAS maps a buffer for each thread at its first products and, where it gets none (ulimit -v),
 * asks again without end: so whether they could be had is asked here. */
static bool blas_has_room(int threads)
{
    size_t bytes = (size_t)threads * BLAS_MIB << 20;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return false;
    munmap(at, bytes);
    return true;
}

static wane_status cpu_open(int index, size_t scratch_bytes, wane_dev **out, char *why)
{
    *out = NULL;
    if (index != 0) {
        snprintf(why, WHY_BYTES, "there is only one CPU device, cpu:0 (asked for cpu:%d)", index);
        return WANE_EDEVICE;
    }
    const cpu_loops *loops = choose(why);
    if (!loops) return WANE_EDEVICE;
    if (scratch_bytes < (size_t)CPU_SHARED_BYTES + CPU_THREAD_BYTES) {
        snprintf(why, WHY_BYTES,
                 "%zu bytes of scratch are too few: %d for all and %d for each thread",
                 scratch_bytes, CPU_SHARED_BYTES, CPU_THREAD_BYTES);
        return WANE_EARG;
    }
    size_t room = (scratch_bytes - CPU_SHARED_BYTES) / CPU_THREAD_BYTES;
    int threads = omp_get_max_threads();
    if (room < (size_t)threads) threads = (int)room;
    if (!blas_has_room(threads)) {
        snprintf(why, WHY_BYTES,
                 "%d MiB of address space for %d thread%s of OpenBLAS are not to be had: raise "
                 "ulimit -v, or take fewer with OMP_NUM_THREADS=1",
                 threads * BLAS_MIB, threads, threads == 1 ? "" : "s");
        return WANE_EOOM;
    }
    wane_dev *d = calloc(1, sizeof *d);
    unsigned char *scratch =
        aligned_alloc(ALIGNMENT, (scratch_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (!d || !scratch) {
        snprintf(why, WHY_BYTES, "no memory for %zu bytes of scratch", scratch_bytes);
        free(d);
        free(scratch);
        return WANE_EOOM;
    }
    d->loops = loops;
    d->scratch = scratch;
    d->threads = threads;
    describe(d);
    *out = d;
    return WANE_OK;
}

static void cpu_close(wane_dev *d)
{
    if (!d) return;
    free(d->scratch);
    free(d);
}

/* MemAvailable counts what the kernel would drop from its caches; the free pages alone do not. */
static size_t available(void)
{
    size_t kib = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1) break;
    if (f) fclose(f);
    return kib * 1024;
}

static void cpu_info(wane_dev *d, wane_dev_info *out)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    memset(out, 0, sizeof *out);
    memcpy(out->name, d->name, sizeof out->name);
    out->total = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : 0;
    out->free = available();
    out->threads = d->threads;
}

static wane_status cpu_alloc(wane_dev *d, size_t bytes, void **out)
{
    (void)d;
    *out = NULL;
    if (bytes > SIZE_MAX - PAGE) return WANE_EOOM;
    size_t step = bytes < 4 * PAGE ? (size_t)ALIGNMENT : (size_t)PAGE;
    *out = aligned_alloc(step, (bytes + !bytes + step - 1) / step * step);
#ifdef MADV_HUGEPAGE
    /* the first touch of 4 KiB at a time is several times slower than what is then written there */
    if (*out && step == PAGE) (void)madvise(*out, bytes, MADV_HUGEPAGE);
#endif
    return *out ? WANE_OK : WANE_EOOM;
}

static void cpu_free(wane_dev *d, void *ptr)
{
    (void)d;
    free(ptr);
}

static wane_status cpu_put(wane_dev *d, void *dst, const void *host, size_t bytes)
{
    (void)d;
    if (bytes) memcpy(dst, host, bytes);
    return WANE_OK;
}

static wane_status cpu_get_bytes(wane_dev *d, void *host, const void *src, size_t bytes)
{
    return cpu_put(d, host, src, bytes);
}

static wane_status cpu_copy(wane_dev *d, void *dst, const void *src, size_t bytes)
{
    (void)d;
    if (bytes) memmove(dst, src, bytes);
    return WANE_OK;
}

static wane_status cpu_fill(wane_dev *d, void *dst, int byte, size_t bytes)
{
    (void)d;
    if (bytes) memset(dst, byte, bytes);
    return WANE_OK;
}

static wane_status cpu_sync(wane_dev *d)
{
    (void)d;
    return WANE_OK;
}

/* There is no other memory to be fast with. */
static wane_status cpu_pin(wane_dev *d, void *host, size_t bytes)
{
    (void)d, (void)host, (void)bytes;
    return WANE_EUNSUPPORTED;
}

static void cpu_unpin(wane_dev *d, void *host)
{
    (void)d, (void)host;
}

/* Slots are run when they are called: there is nothing to be queued once more. */
static wane_status cpu_record(wane_dev *d)
{
    (void)d;
    return WANE_EUNSUPPORTED;
}

static wane_status cpu_recorded(wane_dev *d, wane_recording **out)
{
    (void)d;
    *out = NULL;
    return WANE_EUNSUPPORTED;
}

static wane_status cpu_replay(wane_dev *d, wane_recording *r)
{
    (void)d;
    (void)r;
    return WANE_EUNSUPPORTED;
}

static void cpu_forget(wane_dev *d, wane_recording *r)
{
    (void)d;
    (void)r;
}

/* A slot costs a call here: nothing is gained by joining them. */
wane_status cpu_products(wane_dev *d, const wane_products *p)
{
    return wane_products_by_slots(wane_cpu_kernels(), d, p);
}

wane_status cpu_heads(wane_dev *d, const wane_heads *h)
{
    return wane_heads_by_slots(wane_cpu_kernels(), d, h);
}

static const wane_kernels table = {
    .abi = WANE_KERNELS_ABI,
    .name = "cpu",
    .activations = WANE_F32,
    .open = cpu_open,
    .close = cpu_close,
    .info = cpu_info,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .put = cpu_put,
    .get = cpu_get_bytes,
    .copy = cpu_copy,
    .fill = cpu_fill,
    .sync = cpu_sync,
    .pin = cpu_pin,
    .unpin = cpu_unpin,
    .record = cpu_record,
    .recorded = cpu_recorded,
    .replay = cpu_replay,
    .forget = cpu_forget,
    .convert = cpu_convert,
    .binary = cpu_binary,
    .unary = cpu_unary,
    .reduce = cpu_reduce,
    .transpose = cpu_transpose,
    .finite = cpu_finite,
    .matmul = cpu_matmul,
    .gram = cpu_gram,
    .column_max = cpu_column_max,
    .column_sum = cpu_column_sum,
    .fit_grid = cpu_fit_grid,
    .encode = cpu_encode,
    .decode = cpu_decode,
    .pack = cpu_pack,
    .unpack = cpu_unpack,
    .qmatmul = cpu_qmatmul,
    .gram_error = cpu_gram_error,
    .inverse_factor = cpu_inverse_factor,
    .gptq = cpu_gptq,
    .hqq = cpu_hqq,
    .refit = cpu_refit,
    .clip_search = cpu_clip_search,
    .products = cpu_products,
    .heads = cpu_heads,
    .embed = cpu_embed,
    .rmsnorm = cpu_rmsnorm,
    .rope = cpu_rope,
    .store = cpu_store,
    .attend = cpu_attend,
    .silu_mul = cpu_silu_mul,
    .take_rows = cpu_take_rows,
    .argmax = cpu_argmax,
    .advance = cpu_advance,
    .log_prob = cpu_log_prob,
    .divergence = cpu_divergence,
};

const wane_kernels *wane_cpu_kernels(void)
{
    return &table;
}
