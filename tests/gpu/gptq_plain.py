"""The published GPTQ algorithm in plain PyTorch, beside wane's kernels on the same tensors.

  python3 tests/gpu/gptq_plain.py build/libwane_cuda.so [tokens]

Frantar, Ashkboos, Hoefler, Alistarh 2022, arXiv:2210.17323, algorithm 1, written from the paper: a Hessian of each
matrix in float32 as a running mean, damping, the upper Cholesky factor of its inverse, columns one by one in blocks of
128, a grid of each group fitted on the weights as they are when it is reached. wane's side is called through its table
of kernels (kernels/kernels.h, whose order of slots is read from that file): gram, inverse_factor, gptq, on the same
device memory. Shapes are those of a layer of Qwen3-4B; the activations are of chance, with correlated columns and a few
loud ones. Times are of the second of two runs; errors are sqrt(tr(d h d^T) / tr(w h w^T)). Prints one JSON object.
"""
import ctypes
import json
import os
import re
import sys
import time

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
BITS, GROUP, BLOCK, DAMP = 4, 128, 128, 0.01
# input: columns, and the rows of the matrices that read it
STAGES = {"q k v": (2560, (4096, 1024, 1024)), "o": (4096, (2560,)), "gate up": (2560, (9728, 9728)),
          "down": (9728, (2560,))}
F32, BF16, U8, I32 = 0, 2, 4, 5


class Mat(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("dtype", ctypes.c_int), ("rows", ctypes.c_int64),
                ("cols", ctypes.c_int64), ("stride", ctypes.c_int64)]


class Grid(ctypes.Structure):
    _fields_ = [("words", Mat), ("scale", Mat), ("zero", Mat), ("k", ctypes.c_int64), ("group", ctypes.c_int64),
                ("bits", ctypes.c_int), ("act_bits", ctypes.c_int)]


def mat(t):
    kind = {torch.float32: F32, torch.bfloat16: BF16, torch.uint8: U8, torch.int32: I32}[t.dtype]
    return Mat(t.data_ptr(), kind, t.shape[0], t.shape[1], t.stride(0))


class Wane:
    """The slots that are needed here, by name; a status other than 0 is an error."""

    def __init__(self, library):
        with open(os.path.join(HERE, "../../kernels/kernels.h")) as f:
            table = re.search(r"typedef struct wane_kernels \{(.*?)\} wane_kernels;", f.read(), re.S).group(1)
        slots = re.findall(r"\(\*(\w+)\)\(", table)
        get = ctypes.CDLL(library).wane_cuda_kernels
        get.restype = ctypes.c_void_p
        # abi, name and activations before the slots, each in 8 bytes
        self.slots = ctypes.cast(get(), ctypes.POINTER(ctypes.c_void_p))
        self.index = {name: 3 + i for i, name in enumerate(slots)}
        self.device, why = ctypes.c_void_p(), ctypes.create_string_buffer(256)
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p),
                                ctypes.c_char_p)
        status = kind(self.slots[self.index["open"]])(0, 256 << 20, ctypes.byref(self.device), why)
        if status:
            raise SystemExit("wane: " + why.value.decode())

    def call(self, name, *arguments):
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, *[type(a) for a in arguments])
        status = kind(self.slots[self.index[name]])(self.device, *arguments)
        if status:
            raise RuntimeError("%s: status %d" % (name, status))


def timed(f):
    torch.cuda.synchronize()
    began = time.perf_counter()
    result = f()
    torch.cuda.synchronize()
    return result, time.perf_counter() - began


def inputs(tokens, k, seed):
    g = torch.Generator("cuda").manual_seed(seed)
    mix = torch.randn(64, k, device="cuda", generator=g)
    loud = torch.exp(0.7 * torch.randn(k, device="cuda", generator=g))
    loud[torch.randperm(k, device="cuda", generator=g)[:8]] *= 20
    out = torch.empty(tokens, k, dtype=torch.bfloat16, device="cuda")
    for part in out.split(8192):
        x = torch.randn(part.shape, device="cuda", generator=g)
        part.copy_((x + 0.1 * torch.randn(len(part), 64, device="cuda", generator=g) @ mix) * loud)
    return out


def plain_hessian(x):
    h, seen = torch.zeros(x.shape[1], x.shape[1], device="cuda"), 0
    for part in x.split(2048):
        h *= seen / (seen + 1)
        seen += 1
        rows = (2 / len(part) / seen) ** 0.5 * part.float()
        h += rows.t() @ rows
    return h


def plain_solve(weight, hessian):
    w, h = weight.float(), hessian.clone()
    k = w.shape[1]
    dead = torch.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h.diagonal().add_(DAMP * torch.diag(h).mean())
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    out, top = torch.empty_like(w), 2 ** BITS - 1
    for first in range(0, k, BLOCK):
        last = min(first + BLOCK, k)
        block, errors, ub = w[:, first:last].clone(), torch.empty_like(w[:, first:last]), u[first:last, first:last]
        for i in range(last - first):
            if (first + i) % GROUP == 0:
                group = block[:, i:i + GROUP]
                low, high = group.amin(1).clamp(max=0), group.amax(1).clamp(min=0)
                # the scale is fitted as it is stored
                scale = ((high - low) / top).clamp(min=1e-8).to(weight.dtype).float()
                zero = torch.round(-low / scale).clamp(0, top)
            q = (torch.round(block[:, i] / scale) + zero).clamp(0, top)
            q = (q - zero) * scale
            out[:, first + i] = q
            errors[:, i] = (block[:, i] - q) / ub[i, i]
            block[:, i:] -= errors[:, i:i + 1] @ ub[i:i + 1, i:]
        w[:, last:] -= errors @ u[first:last, last:]
    return out


def wane_gram(wane, x):
    h = torch.zeros(x.shape[1], x.shape[1], device="cuda")
    torch.cuda.synchronize()
    for part in x.split(8192):
        wane.call("gram", mat(h), mat(part), Mat())
    wane.call("sync")
    return h / len(x)


def wane_factor(wane, h):
    u = h.clone()
    torch.cuda.synchronize()
    wane.call("inverse_factor", mat(u), Mat(), ctypes.c_float(DAMP))
    wane.call("sync")
    return u


def wane_solve(wane, weight, u):
    m, k = weight.shape
    w, groups = weight.float(), k // GROUP
    words = torch.empty(m, k * BITS // 32, dtype=torch.int32, device="cuda")
    scale = torch.empty(m, groups, dtype=weight.dtype, device="cuda")
    zero = torch.empty(m, groups, dtype=torch.uint8, device="cuda")
    codes = torch.empty(m, k, dtype=torch.uint8, device="cuda")
    grid = Grid(mat(words), mat(scale), mat(zero), k, GROUP, BITS, 0)
    torch.cuda.synchronize()
    wane.call("gptq", grid, mat(codes), mat(w), mat(u), Mat())
    wane.call("sync")
    return grid, (words, scale, zero, codes)


def decoded(wane, grid, shape):
    w = torch.empty(shape, device="cuda")
    wane.call("decode", mat(w), grid)
    wane.call("sync")
    return w


def error(weight, quantized, h):
    w = weight.double()
    d, h = quantized.double() - w, h.double()
    return float((((d @ h) * d).sum() / ((w @ h) * w).sum()).sqrt())


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 262144
    torch.backends.cuda.matmul.allow_tf32 = False
    wane = Wane(sys.argv[1])
    small, probe = inputs(4096, 512, 1), torch.randn(256, 512, device="cuda").bfloat16()
    plain_solve(probe, plain_hessian(small))
    wane_solve(wane, probe, wane_factor(wane, wane_gram(wane, small)))
    total = {"plain_hessian": 0.0, "plain_solve": 0.0, "wane_gram": 0.0, "wane_factor": 0.0, "wane_solve": 0.0}
    matrices = []
    for number, (stage, (k, rows)) in enumerate(STAGES.items()):
        x = inputs(tokens, k, 10 + number)
        wane_gram(wane, x[:16384])
        h, seconds = timed(lambda: wane_gram(wane, x))
        total["wane_gram"] += seconds
        wane_factor(wane, h)
        u, seconds = timed(lambda: wane_factor(wane, h))
        total["wane_factor"] += seconds
        plain_hessian(x[:4096])
        g, hessian = timed(lambda: plain_hessian(x))
        del x
        for i, m in enumerate(rows):
            weight = (0.02 * torch.randn(m, k, device="cuda")).bfloat16()
            wane_solve(wane, weight, u)
            (grid, keep), mine = timed(lambda: wane_solve(wane, weight, u))
            ours = error(weight, decoded(wane, grid, weight.shape), g)
            q, plain = timed(lambda: plain_solve(weight, g))
            theirs = error(weight, q, g)
            del keep
            total["plain_hessian"] += hessian  # published code has one for each matrix
            total["plain_solve"] += plain
            total["wane_solve"] += mine
            matrices.append({"input": stage, "matrix": i + 1, "m": m, "k": k, "plain_error": theirs,
                             "wane_error": ours, "plain_seconds": plain, "wane_seconds": mine})
    plain, ours = total["plain_hessian"] + total["plain_solve"], sum(v for n, v in total.items() if n[:4] == "wane")
    worst = max(r["wane_error"] / r["plain_error"] for r in matrices)
    print(json.dumps({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "tokens": tokens,
                      "seconds_a_layer": {"plain": plain, "wane": ours, **total}, "times_faster": plain / ours,
                      "worst_error_ratio": worst, "matrices": matrices}, indent=1))


if __name__ == "__main__":
    main()
