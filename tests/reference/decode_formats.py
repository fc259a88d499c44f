#!/usr/bin/env python3
"""decode_formats.py: every weight of quantized checkpoints, decoded as the formats' documents say and by nothing of wane's.

    decode_formats.py FOLDER WEIGHTS.safetensors [FOLDER WEIGHTS.safetensors ...]

FOLDER is a checkpoint in compressed-tensors, AutoAWQ (gemm), GPTQ (version 1 or 2) or HQQ. WEIGHTS holds what another
program takes its matrices for, in float32, under the names of a dense checkpoint; they must be the same, bit by bit.
Needs NumPy only. The layouts are those that each project's own reader has: see the comments."""
import json
import os
import sys

import numpy as np

DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1"}


def read_file(path):
    """A safetensors file: eight bytes of length, a JSON header, the data. Gives name -> (dtype, array)."""
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(length))
        data = f.read()
    tensors = {}
    for name, about in header.items():
        if name != "__metadata__":
            first, last = about["data_offsets"]
            flat = np.frombuffer(data[first:last], DTYPES[about["dtype"]])
            tensors[name] = (about["dtype"], flat.reshape(about["shape"]))
    return tensors


def read_folder(folder):
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_file(os.path.join(folder, "model.safetensors"))
    with open(index) as f:
        where = json.load(f)["weight_map"]
    shards = {shard: read_file(os.path.join(folder, shard)) for shard in set(where.values())}
    return {name: shards[shard][name] for name, shard in where.items()}


def floats(tensor):
    dtype, array = tensor
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def bits_of(words, bits, count):
    """The first `count` values of `bits` bits along the last axis: a dense little-endian stream in 32-bit words."""
    stream = np.unpackbits(words.view(np.uint32).astype("<u4").view(np.uint8).reshape(words.shape + (4,)), axis=-1,
                           bitorder="little").reshape(words.shape[:-1] + (-1,))
    stream = stream[..., :count * bits].reshape(words.shape[:-1] + (count, bits))
    return (stream << np.arange(bits, dtype=np.uint8)).sum(-1, dtype=np.int64)


def spread(per_group, group):
    """(n, groups) -> (n, k)"""
    return np.repeat(per_group, group, axis=1)


def weight(codes, zero, scale):
    """(q - zero) * scale in float32, where the difference and for 16-bit scales the product are exact."""
    return (codes.astype(np.float32) - zero.astype(np.float32)) * scale


def compressed_tensors(tensors, name, config):
    """weight_packed (n, words): element k of a row at bit b*k, stored as signed code + 2^(b-1); weight_zero_point packed
    along the outputs, (words, groups), stored as signed zero + 2^(b-1); int-quantized: weight I8 (n, k)."""
    scheme = next(iter(config["config_groups"].values()))["weights"]
    bits, scale = scheme["num_bits"], floats(tensors[name + ".weight_scale"])
    if name + ".weight" in tensors:
        return tensors[name + ".weight"][1].astype(np.float32) * scale
    n, k = tensors[name + ".weight_shape"][1]
    group, half = k // scale.shape[1], 1 << (bits - 1)
    codes = bits_of(np.ascontiguousarray(tensors[name + ".weight_packed"][1]), bits, k) - half
    zero = np.zeros(scale.shape, np.int64)
    if not scheme["symmetric"]:
        columns = np.ascontiguousarray(tensors[name + ".weight_zero_point"][1].T)
        zero = bits_of(columns, bits, n).T - half
    return weight(codes, spread(zero, group), spread(scale, group))


def nibbles_awq(words):
    """(rows, n/8) -> (rows, n): nibble i of word c is column 8c + order[i]."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    out = np.empty((words.shape[0], words.shape[1] * 8), np.int64)
    for i, place in enumerate(order):
        out[:, place::8] = words.view(np.uint32) >> np.uint32(4 * i) & 15
    return out


def awq(tensors, name, config):
    """qweight (k, n/8), qzeros (k/g, n/8), scales (k/g, n); zero points as they are."""
    assert config["bits"] == 4 and config["zero_point"] and config["version"] == "gemm"
    scale = floats(tensors[name + ".scales"]).T
    codes = nibbles_awq(tensors[name + ".qweight"][1]).T
    zero = nibbles_awq(tensors[name + ".qzeros"][1]).T
    group = codes.shape[1] // scale.shape[1]
    assert config["group_size"] in (group, -1)
    return weight(codes, spread(zero, group), spread(scale, group))


def gptq(tensors, name, config):
    """qweight (k*b/32, n) packed along k; qzeros (k/g, n*b/32) packed along n; version 1 stores zero - 1; g_idx (k)."""
    bits = config["bits"]
    scale = floats(tensors[name + ".scales"])
    words = tensors[name + ".qweight"][1]
    n, k = words.shape[1], words.shape[0] * 32 // bits
    codes = bits_of(np.ascontiguousarray(words.T), bits, k)
    zero = bits_of(np.ascontiguousarray(tensors[name + ".qzeros"][1]), bits, n)
    if config["checkpoint_format"] == "gptq":
        zero = zero + 1
    order = tensors[name + ".g_idx"][1]
    return weight(codes, zero[order].T, scale[order].T)


def hqq(tensors, name, config):
    """W_q (rows/2, g): row r in the high nibble, row r + rows/2 in the low one; scale and zero (rows, 1)."""
    assert config["quant_config"]["weight_quant_params"]["nbits"] == 4
    packed = tensors[name + ".W_q"][1]
    codes = np.concatenate([packed >> 4, packed & 15]).astype(np.int64)
    rows = weight(codes, floats(tensors[name + ".zero"]), floats(tensors[name + ".scale"]))
    return rows.reshape(tensors[name + ".shape"][1])


DECODERS = {"compressed-tensors": compressed_tensors, "awq": awq, "gptq": gptq, "hqq": hqq}


def compare(folder, expected):
    """How many weights a folder has, and how many are not what they were taken for."""
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)["quantization_config"]
    tensors, decode = read_folder(folder), DECODERS[config["quant_method"]]
    count = different = 0
    for name, meant in read_file(expected).items():
        found = decode(tensors, name[:-len(".weight")], config)
        meant = meant[1]
        if found.shape != meant.shape:
            raise SystemExit(f"{folder}: {name} is {found.shape}, not {meant.shape}")
        found = found.astype(np.float32) + 0.0  # -0 is 0
        count += meant.size
        different += int((found != meant).sum())
    return config["quant_method"], count, different


def main():
    pairs = list(zip(sys.argv[1::2], sys.argv[2::2]))
    bad = 0
    for folder, expected in pairs:
        method, count, different = compare(folder, expected)
        bad += different
        print(f"{os.path.basename(folder)}: {method}, {count} weights, {different} different")
    return 1 if bad or not pairs else 0


if __name__ == "__main__":
    sys.exit(main())
