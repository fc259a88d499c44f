"""More golden quantizer results on one small matrix, in float64 with NumPy alone, from the published algorithms:
whole rows, 2 and 8 bits, scales rounded to bf16, integer zeros for hqq, awq's clip search, and W8A8.
python3 tests/reference/matrices_more.py tests/reference

Conventions, beyond those of matrices.py: clip factors 1, 1 - 1/20, .. 0.55, of each group the first that loses least
under the group's diagonal block of h; a scale stored as bf16 is rounded before codes are taken on it; hqq's integer
zero is its best float zero rounded into the codes' range, then the scale is refitted by least squares and the codes
retaken in turn, keeping the best of each group by sum |w - decoded|; W8A8: s = max |w| / 127 by row, codes 128 + c,
activations round(x / (max |x| / 127)) by token."""
import json
import struct
import sys

import numpy as np

M, K, N = 24, 128, 300


def bf16(x):
    """x rounded half to even to bfloat16, as float64."""
    u = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    u = (u + 0x7FFF + ((u >> 16) & 1)) & 0xFFFF0000
    return u.astype(np.uint32).view(np.float32).astype(np.float64)


def same(x):
    return x


def asym(w, bits, store=same):
    q = 2**bits - 1
    low, high = np.minimum(w.min(-1, keepdims=True), 0), np.maximum(w.max(-1, keepdims=True), 0)
    s = store(np.maximum((high - low) / q, 1e-8))
    return s, np.clip(np.round(-low / s), 0, q)


def sym(w, bits, store=same):
    s = store(np.maximum(2 * np.abs(w).max(-1, keepdims=True) / (2**bits - 1), 1e-8))
    return s, np.full_like(s, 2 ** (bits - 1))


def encode(w, s, z, bits):
    return np.clip(np.round(w / s) + z, 0, 2**bits - 1)


def encode_float(w, s, z, bits):
    return np.clip(np.round(w / s + z), 0, 2**bits - 1)


def rtn(w, bits, g, grid, store=same):
    groups = w.reshape(M, -1, g)
    s, z = grid(groups, bits, store)
    c = encode(groups, s, z, bits)
    return c.reshape(w.shape), s[..., 0], z[..., 0]


def gptq(w, h, bits, g, grid, damp=0.01):
    w, h = w.copy(), h.copy()
    diagonal = np.diag(h).reshape(-1, g)
    groups = np.argsort(-diagonal.max(1), kind="stable")
    inside = np.argsort(-diagonal, axis=1, kind="stable") + np.arange(0, K, g)[:, None]
    order = inside[groups].reshape(-1)
    w, h = w[:, order], h[np.ix_(order, order)]
    h[np.diag_indices(K)] += damp * np.mean(np.diag(h))
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    codes, scale, zero = np.zeros_like(w), np.zeros((M, K // g)), np.zeros((M, K // g))
    for i in range(K):
        if i % g == 0:
            s, z = grid(w[:, i : i + g], bits)
            scale[:, groups[i // g]], zero[:, groups[i // g]] = s[:, 0], z[:, 0]
        x = w[:, i : i + 1]
        c = encode(x, s, z, bits)
        codes[:, i : i + 1] = c
        w[:, i:] -= (x - (c - z) * s) / u[i, i] * u[i : i + 1, i:]
    return codes[:, np.argsort(order)], scale, zero


def hqq_zero(w, bits, s, z, p=0.7, beta=10.0, kappa=1.01, iterations=20):
    most = 2**bits - 1
    best = z.copy()
    least = np.abs((encode(w, s, z, bits) - z) * s - w).mean(-1, keepdims=True)
    for _ in range(iterations):
        q = encode_float(w, s, z, bits)
        e = w - (q - z) * s
        a = np.abs(e)
        e = np.sign(e) * np.maximum(a - np.maximum(a, 1e-12) ** (p - 1) / beta, 0)
        z = (q - (w - e) / s).mean(-1, keepdims=True)
        beta *= kappa
        error = np.abs((encode_float(w, s, z, bits) - z) * s - w).mean(-1, keepdims=True)
        best, least = np.where(error < least, z, best), np.minimum(error, least)
    return best


def hqq_integer(w, bits, g, rounds=20):
    groups = w.reshape(M, -1, g)
    s, z = asym(groups, bits)
    z = np.clip(np.round(hqq_zero(groups, bits, s, z)), 0, 2**bits - 1)
    c = encode(groups, s, z, bits)
    best_c, best_s = c, s
    least = np.abs((c - z) * s - groups).sum(-1, keepdims=True)
    for _ in range(rounds):
        square = ((c - z) ** 2).sum(-1, keepdims=True)
        fit = (groups * (c - z)).sum(-1, keepdims=True) / np.where(square > 0, square, 1)
        s = np.where((square > 0) & (fit > 0), fit, s)
        c = encode(groups, s, z, bits)
        error = np.abs((c - z) * s - groups).sum(-1, keepdims=True)
        better = error < least
        best_c, best_s, least = np.where(better, c, best_c), np.where(better, s, best_s), np.where(better, error, least)
    return best_c.reshape(w.shape), best_s[..., 0], z[..., 0]


def clip(w, h, bits, g, steps=20, most=0.5):
    factor = np.ones((M, K // g))
    codes, scale, zero = np.zeros_like(w), np.zeros((M, K // g)), np.zeros((M, K // g))
    for i in range(K // g):
        part, block = w[:, i * g : (i + 1) * g], h[i * g : (i + 1) * g, i * g : (i + 1) * g]
        least = np.full(M, np.inf)
        for step in range(int(most * steps)):
            f = 1 - step / steps
            low, high = np.minimum(part.min(1, keepdims=True), 0) * f, np.maximum(part.max(1, keepdims=True), 0) * f
            s = np.maximum((high - low) / (2**bits - 1), 1e-8)
            z = np.clip(np.round(-low / s), 0, 2**bits - 1)
            c = encode(part, s, z, bits)
            d = (c - z) * s - part
            loss = ((d @ block) * d).sum(1)
            t = loss < least
            least = np.where(t, loss, least)
            factor[t, i] = f
            codes[t, i * g : (i + 1) * g], scale[t, i], zero[t, i] = c[t], s[t, 0], z[t, 0]
    return codes, scale, zero, factor


def write(path, tensors):
    """A safetensors file: name -> (dtype, array)."""
    header, data, at = {}, b"", 0
    for name in sorted(tensors):
        dtype, array = tensors[name]
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        data, at = data + raw, at + len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)


random = np.random.default_rng(20)
w = bf16(random.standard_normal((M, K)) * (0.5 + random.random((M, 1))))
w[3, 17], w[5] = bf16(9.0), np.abs(w[5])  # an outlier, and a row of one sign
mix = random.standard_normal((K, K)) * 0.3 + np.eye(K)
x = bf16(random.standard_normal((N, K)) @ mix * np.exp(random.standard_normal(K)))
h = x.T @ x / N
out = {
    "small.w": ("BF16", (w.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)),
    "small.x": ("F32", x.astype(np.float32)),
    "small.h": ("F64", h),
    "small.mean_abs_x": ("F64", np.abs(x).mean(0)),
    "small.max_abs_x": ("F64", np.abs(x).max(0)),
}
errors = {}


def put(key, codes, scale, zero):
    g = K // scale.shape[1]
    d = ((codes.reshape(M, -1, g) - zero[..., None]) * scale[..., None]).reshape(M, K) - w
    errors[f"small.{key}"] = float(np.sqrt(((d @ h) * d).sum() / ((w @ h) * w).sum()))
    out[f"small.{key}.codes"] = ("U8", codes.astype(np.uint8))


for bits, g in ((2, 32), (8, 64), (4, K), (8, K), (3, K)):
    group = "row" if g == K else f"g{g}"
    for name, grid in (("asym", asym), ("sym", sym)):
        put(f"rtn.w{bits}{group}.{name}", *rtn(w, bits, g, grid))
        put(f"gptq.w{bits}{group}.{name}", *gptq(w, h, bits, g, grid))
    put(f"hqq.w{bits}{group}", *hqq_integer(w, bits, g))
put("rtn_bf16.w4g32.asym", *rtn(w, 4, 32, asym, bf16))
put("rtn_bf16.w4g32.sym", *rtn(w, 4, 32, sym, bf16))
for bits, g in ((4, 64), (2, 32)):
    codes, scale, zero, factor = clip(w, h, bits, g)
    put(f"clip.w{bits}g{g}", codes, scale, zero)
    out[f"small.clip.w{bits}g{g}.factor"] = ("F32", factor.astype(np.float32))

s = np.abs(w).max(1, keepdims=True) / 127
c = np.round(w / s)
put("w8a8", c + 128, s, np.full((M, 1), 128.0))
t = np.abs(x).max(1, keepdims=True) / 127
out["small.w8a8.y"] = ("F32", ((np.round(x / t) @ c.T) * t * s.T).astype(np.float32))

write(f"{sys.argv[1]}/matrices_more.safetensors", out)
json.dump(errors, open(f"{sys.argv[1]}/matrices_more.json", "w"), indent=1)
