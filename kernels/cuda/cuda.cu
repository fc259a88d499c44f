/* cuda.cu - the CUDA backend's table, its device, and memory. The twin of cpu.c.
 *
 * A device is one stream, one cuBLAS handle and the scratch given at open. cudart is linked in, the driver is found at
 * run time: without one, open says so and the program goes on with the CPU. Atomics-free cuBLAS algorithms and one
 * stream make results repeat bit by bit on a device. */
#include "kernels/cuda/device.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/compose.h"
#include "kernels/cuda/few.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/slots.h"

enum { WHY_BYTES = 256, BLAS_BYTES = 32 << 20 };

struct wane_recording {
    cudaGraphExec_t graph;
};

wane_status cuda_status(wane_dev *d, cudaError_t e)
{
    if (e == cudaSuccess) return d && d->lost ? WANE_EDEVICE : WANE_OK;
    if (cudaGetLastError() == cudaErrorMemoryAllocation || e == cudaErrorMemoryAllocation) return WANE_EOOM;
    if (e == cudaErrorInvalidValue || e == cudaErrorInvalidConfiguration) return WANE_EARG;
    if (d) d->lost = true;
    return WANE_EDEVICE;
}

wane_status cuda_blas_status(wane_dev *d, cublasStatus_t s)
{
    if (s == CUBLAS_STATUS_SUCCESS) return launched(d);
    if (s == CUBLAS_STATUS_ALLOC_FAILED) return WANE_EOOM;
    if (s == CUBLAS_STATUS_INVALID_VALUE) return WANE_EARG;
    d->lost = true;
    return WANE_EDEVICE;
}

/* Why there is no device, in words, with what to do about it. */
static wane_status explain(cudaError_t e, int index, char *why)
{
    int driver = 0, runtime = 0, count = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    cudaGetLastError();
    if (driver == 0)
        snprintf(why, WHY_BYTES, "no NVIDIA driver on this machine; install one, or use device = \"cpu\"");
    else if (e == cudaErrorInsufficientDriver)
        snprintf(why, WHY_BYTES, "the NVIDIA driver knows CUDA %d.%d, this build wants %d.%d; update the driver",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    else if (e == cudaErrorNoDevice || (cudaGetDeviceCount(&count) == cudaSuccess && count == 0))
        snprintf(why, WHY_BYTES, "the NVIDIA driver shows no GPU; look at nvidia-smi and CUDA_VISIBLE_DEVICES");
    else if (count > 0 && index >= count)
        snprintf(why, WHY_BYTES, "there is no GPU %d: this machine shows %d", index, count);
    else
        snprintf(why, WHY_BYTES, "the GPU cannot be used: %s", cudaGetErrorString(e));
    return e == cudaErrorMemoryAllocation ? WANE_EOOM : WANE_EDEVICE;
}

/* A kernel that does nothing: whether this build has code for the GPU at all. */
static __global__ void probe_kernel() {}

static wane_status cuda_open(int index, size_t scratch_bytes, wane_dev **out, char *why)
{
    cudaDeviceProp p;
    *out = NULL;
    int count = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e == cudaSuccess && (index < 0 || index >= count)) e = cudaErrorInvalidDevice;
    if (e == cudaSuccess) e = cudaSetDevice(index);
    if (e == cudaSuccess) e = cudaGetDeviceProperties(&p, index);
    if (e != cudaSuccess) return explain(e, index, why);
    wane_dev *d = (wane_dev *)calloc(1, sizeof *d);
    if (!d) {
        snprintf(why, WHY_BYTES, "no host memory for a device");
        return WANE_EOOM;
    }
    d->index = index;
    d->processors = p.multiProcessorCount;
    d->capability = p.major * 10 + p.minor;
    snprintf(d->name, sizeof d->name, "%.90s", p.name);
    const char *sync = getenv("WANE_SYNC");
    d->synchronous = sync && *sync == '1';
    probe_kernel<<<1, 1>>>();
    e = cudaGetLastError();
    if (e == cudaErrorNoKernelImageForDevice) {
        snprintf(why, WHY_BYTES, "this build has no code for %.60s (compute capability %d.%d); build with "
                 "-DCMAKE_CUDA_ARCHITECTURES=%d%d", p.name, p.major, p.minor, p.major, p.minor);
        free(d);
        return WANE_EDEVICE;
    }
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = cudaMalloc(&d->scratch, scratch_bytes);
    d->scratch_bytes = scratch_bytes;
    if (e == cudaSuccess) e = cudaMalloc(&d->tickets, CUDA_TICKETS * sizeof *d->tickets);
    if (e == cudaSuccess) e = cudaMemsetAsync(d->tickets, 0, CUDA_TICKETS * sizeof *d->tickets, d->stream);
    if (e == cudaSuccess) e = cudaMalloc(&d->blas_memory, BLAS_BYTES);
    if (e == cudaSuccess &&
        (cublasCreate(&d->blas) != CUBLAS_STATUS_SUCCESS ||
         cublasSetStream(d->blas, d->stream) != CUBLAS_STATUS_SUCCESS ||
         cublasSetWorkspace(d->blas, d->blas_memory, BLAS_BYTES) != CUBLAS_STATUS_SUCCESS)) /* none of its own: see record */
        e = cudaErrorMemoryAllocation;
    if (e != cudaSuccess) {
        wane_status s = explain(e, index, why);
        cuda_close(d);
        return s;
    }
    cublasSetMathMode(d->blas, CUBLAS_DEFAULT_MATH); /* float32 stays float32: no TF32 */
    cublasSetAtomicsMode(d->blas, CUBLAS_ATOMICS_NOT_ALLOWED);
    *out = d;
    return WANE_OK;
}

void cuda_close(wane_dev *d)
{
    if (!d) return;
    cudaSetDevice(d->index);
    if (d->stream) cudaStreamSynchronize(d->stream);
    if (d->blas) cublasDestroy(d->blas);
    cudaFree(d->blas_memory);
    cudaFree(d->tickets);
    cudaFree(d->scratch);
    if (d->stream) cudaStreamDestroy(d->stream);
    cudaGetLastError();
    free(d);
}

static void cuda_info(wane_dev *d, wane_dev_info *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->name, d->name, sizeof out->name);
    if (cudaMemGetInfo(&out->free, &out->total) != cudaSuccess) cudaGetLastError();
    out->threads = d->processors;
}

static wane_status cuda_alloc(wane_dev *d, size_t bytes, void **out)
{
    *out = NULL;
    return cuda_status(d, cudaMalloc(out, bytes ? bytes : 1));
}

static void cuda_free(wane_dev *d, void *p)
{
    if (p) cuda_status(d, cudaFree(p));
}

static wane_status cuda_put(wane_dev *d, void *dst, const void *host, size_t bytes)
{
    cudaError_t e = cudaMemcpyAsync(dst, host, bytes, cudaMemcpyHostToDevice, d->stream);
    return cuda_status(d, e ? e : cudaStreamSynchronize(d->stream)); /* the caller may free its bytes */
}

wane_status cuda_get_now(wane_dev *d, void *host, const void *src, size_t bytes)
{
    cudaError_t e = cudaMemcpyAsync(host, src, bytes, cudaMemcpyDeviceToHost, d->stream);
    return cuda_status(d, e ? e : cudaStreamSynchronize(d->stream));
}

static wane_status cuda_copy(wane_dev *d, void *dst, const void *src, size_t bytes)
{
    return cuda_status(d, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, d->stream));
}

static wane_status cuda_fill(wane_dev *d, void *dst, int byte, size_t bytes)
{
    return cuda_status(d, cudaMemsetAsync(dst, byte, bytes, d->stream));
}

static wane_status cuda_sync(wane_dev *d) { return cuda_status(d, cudaStreamSynchronize(d->stream)); }

static wane_status cuda_pin(wane_dev *d, void *host, size_t bytes)
{
    cudaError_t e = cudaHostRegister(host, bytes, cudaHostRegisterDefault);
    if (e != cudaSuccess) cudaGetLastError();
    return d->lost ? WANE_EDEVICE : e == cudaErrorMemoryAllocation ? WANE_EOOM : e ? WANE_EUNSUPPORTED : WANE_OK;
}

static void cuda_unpin(wane_dev *d, void *host)
{
    if (host) cuda_status(d, cudaHostUnregister(host));
}

static wane_status cuda_record(wane_dev *d)
{
    wane_status s = cuda_status(d, cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal));
    d->recording = !s; /* launches overlap only while it is true: launch.cuh */
    return s;
}

static wane_status cuda_recorded(wane_dev *d, wane_recording **out)
{
    cudaGraph_t graph = NULL;
    d->recording = false;
    *out = NULL;
    wane_recording *r = (wane_recording *)calloc(1, sizeof *r);
    cudaError_t e = cudaStreamEndCapture(d->stream, &graph);
    if (e == cudaSuccess && r) e = cudaGraphInstantiate(&r->graph, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (!r) return WANE_EOOM;
    if (e == cudaErrorStreamCaptureInvalidated || e == cudaErrorStreamCaptureUnsupported) {
        cudaGetLastError(); /* a slot failed in between, and has said so; the device is as it was */
        free(r);
        return WANE_EARG;
    }
    if (e != cudaSuccess) free(r);
    else *out = r;
    return cuda_status(d, e);
}

static wane_status cuda_replay(wane_dev *d, wane_recording *r)
{
    return r ? cuda_status(d, cudaGraphLaunch(r->graph, d->stream)) : WANE_EARG;
}

static void cuda_forget(wane_dev *d, wane_recording *r)
{
    if (!r) return;
    cuda_status(d, cudaGraphExecDestroy(r->graph));
    free(r);
}

wane_status cuda_products(wane_dev *d, const wane_products *p)
{
    if (!wane_products_fit(p) || !valid_float(p->x) || (p->gain.data && !valid_float(p->gain)) ||
        (p->residual.data && !valid_float(p->residual)))
        return WANE_EARG;
    for (int i = 0; i < p->parts; i++) {
        const wane_product *a = &p->part[i];
        if (!valid_float(a->y) || (a->bias.data && !valid_float(a->bias)) ||
            !(a->w.data ? valid_float(a->w) : cuda_valid_grid(&a->q, a->y.cols, true)))
            return WANE_EARG;
    }
    if (!p->x.rows) return WANE_OK;
    if (p->x.rows <= CUDA_FEW && cuda_few_can(d, p)) return cuda_few(d, p);
    if (cuda_tile_can(d, p)) {
        wane_status s = cuda_tile(d, p);
        if (s != WANE_EUNSUPPORTED) return s;
    }
    const wane_product *only = &p->part[0];
    bool in_place = p->parts == 1 && p->residual.data == only->y.data && p->residual.dtype == only->y.dtype &&
                    p->residual.stride == only->y.stride && !p->gain.data && !only->bias.data;
    if (in_place && p->x.rows > CUDA_FEW) { /* cuBLAS adds to what is there */
        wane_status s = only->w.data ? cuda_matmul_add(d, only->y, p->x, only->w) : cuda_qmatmul_add(d, only->y, p->x, only->q);
        if (s != WANE_EUNSUPPORTED) return s;
    }
    return wane_products_by_slots(cuda_table(), d, p);
}

static const wane_kernels table = {
    .abi = WANE_KERNELS_ABI,
    .name = "cuda",
    .activations = WANE_BF16,
    .open = cuda_open,
    .close = cuda_close,
    .info = cuda_info,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .put = cuda_put,
    .get = cuda_get_now,
    .copy = cuda_copy,
    .fill = cuda_fill,
    .sync = cuda_sync,
    .pin = cuda_pin,
    .unpin = cuda_unpin,
    .record = cuda_record,
    .recorded = cuda_recorded,
    .replay = cuda_replay,
    .forget = cuda_forget,
    .convert = cuda_convert,
    .binary = cuda_binary,
    .unary = cuda_unary,
    .reduce = cuda_reduce,
    .transpose = cuda_transpose,
    .finite = cuda_finite,
    .matmul = cuda_matmul,
    .gram = cuda_gram,
    .column_max = cuda_column_max,
    .column_sum = cuda_column_sum,
    .fit_grid = cuda_fit_grid,
    .encode = cuda_encode,
    .decode = cuda_decode,
    .pack = cuda_pack,
    .unpack = cuda_unpack,
    .qmatmul = cuda_qmatmul,
    .gram_error = cuda_gram_error,
    .inverse_factor = cuda_inverse_factor,
    .gptq = cuda_gptq,
    .hqq = cuda_hqq,
    .refit = cuda_refit,
    .clip_search = cuda_clip_search,
    .products = cuda_products,
    .heads = cuda_heads,
    .embed = cuda_embed,
    .rmsnorm = cuda_rmsnorm,
    .rope = cuda_rope,
    .store = cuda_store,
    .attend = cuda_attend,
    .silu_mul = cuda_silu_mul,
    .take_rows = cuda_take_rows,
    .argmax = cuda_argmax,
    .advance = cuda_advance,
    .log_prob = cuda_log_prob,
    .divergence = cuda_divergence,
};

const wane_kernels *cuda_table(void) { return &table; }

extern "C" __attribute__((visibility("default"))) const wane_kernels *wane_cuda_kernels(void) { return &table; }
