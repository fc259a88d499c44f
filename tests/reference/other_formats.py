#!/usr/bin/env python3
"""other_formats.py: checkpoints that other programs quantized and wrote, for tests/spec/other_spec.lua.

    other_formats.py OUT        (PYTHONPATH: where AutoAWQ lies, which needs not be installed)

The source is a Qwen3 of one layer with random weights. compressed-tensors' own compressor writes OUT/ct-*, GPTQModel
quantizes and saves OUT/gptq* from end to end, AutoAWQ's WQLinear_GEMM packs OUT/awq, the hqq library's own state dict is
OUT/hqq. OUT/NAME/expected.safetensors holds two matrices in float32: each library's own decoding of what it wrote, with
the scales widened to float32 first, in which the products are exact.
Made with compressed-tensors 0.20.0, GPTQModel 7.4.0, AutoAWQ 0.2.7.post3, hqq 0.2.8.post1, torch 2.11.0, Transformers 5.17.0."""
import importlib.util
import json
import os
import sys
import tempfile
import types

os.environ.update(GPTQMODEL_CPU_WORKERS="2", CUDA_VISIBLE_DEVICES="")

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config

MATRICES = ["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.v_proj"]
GROUP = 32


def make_source(folder):
    torch.manual_seed(7)
    config = Qwen3Config(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2,
                         num_key_value_heads=1, head_dim=32, max_position_embeddings=128, tie_word_embeddings=True,
                         bos_token_id=None, eos_token_id=None, pad_token_id=None, dtype="bfloat16")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for name, m in linears(model):
        m.weight.data.normal_(0, 0.05).add_(0.01)  # off the middle, so that zero points differ
    model.save_pretrained(folder)


def linears(model):
    return [(name, m) for name, m in model.named_modules() if name.endswith("_proj")]


def grid(w, bits, symmetric, group):
    """min-max scales and unsigned zero points of groups"""
    parts = w.reshape(w.shape[0], -1, group)
    low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
    if symmetric:
        return torch.maximum(-low, high) * 2 / (2**bits - 1), torch.full_like(low, 2 ** (bits - 1))
    scale = (high - low) / (2**bits - 1)
    return scale, torch.round(-low / scale).clamp(0, 2**bits - 1)


def compressed(source, out, activations=None, **args):
    from compressed_tensors.compressors import BaseCompressor, ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
    from compressed_tensors.quantization import apply_quantization_config

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(type="int", **args), input_activations=activations)
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"],
                                                        quantization_status="frozen"))
    for name, m in linears(model):
        scale, zero = grid(m.weight.data.float(), args["num_bits"], args["symmetric"],
                           args.get("group_size") or m.weight.shape[1])
        m.weight_scale.data.copy_(scale)
        if hasattr(m, "weight_zero_point"):
            m.weight_zero_point.data.copy_(zero - 2 ** (args["num_bits"] - 1))
    schemes = {name: m.quantization_scheme for name, m in linears(model)}
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(out)
    compressor.update_config(out)
    with open(os.path.join(out, "config.json")) as f:
        form = json.load(f)["quantization_config"]["format"]
    tensors, expected = load_file(os.path.join(out, "model.safetensors")), {}
    for name in MATRICES:
        parts = {n[len(name) + 1:]: t for n, t in tensors.items() if n.startswith(name + ".")}
        parts["weight_scale"] = parts["weight_scale"].float()
        expected[name] = BaseCompressor.get_value_from_registry(form).decompress(parts, schemes[name])["weight"]
    return expected


def gptq(source, out, **args):
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    model = GPTQModel.load(source, QuantizeConfig(group_size=GROUP, desc_act=False, device="cpu", offload_to_disk=False, **args))
    torch.manual_seed(0)
    rows = [{"input_ids": torch.randint(0, 64, (1, 64)), "attention_mask": torch.ones(1, 64, dtype=torch.long)}
            for _ in range(8)]
    model.quantize(rows, batch_size=1)
    model.save(out)
    for name in os.listdir(out):  # its log of losses, and a tokenizer made up as there is none
        if name.startswith("tokenizer") or name.endswith(".csv"):
            os.remove(os.path.join(out, name))
    read, expected = GPTQModel.load(out, backend=BACKEND.TORCH, device="cpu", dtype=torch.float16), {}  # the type of the scales
    for name in MATRICES:
        layer = read.model.get_submodule(name)
        layer.scales = layer.scales.float()
        expected[name] = layer.dequantize_weight().T
    return expected


def write(source, out, tensors, quantization):
    """what is not packed goes along as it was"""
    for name, t in load_file(os.path.join(source, "model.safetensors")).items():
        if not name.endswith("_proj.weight"):
            tensors[name] = t
    save_file({n: t.contiguous() for n, t in tensors.items()}, os.path.join(out, "model.safetensors"),
              metadata={"format": "pt"})
    with open(os.path.join(source, "config.json")) as f:
        page = json.load(f)
    page["quantization_config"] = quantization
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(page, f, indent=2)


def import_awq():
    """Two files of AutoAWQ: the rest of the package wants a Transformers of 2024."""
    for name in ["awq", "awq.modules", "awq.modules.linear", "awq.models", "awq.utils"]:
        if name == "awq":
            paths = list(importlib.util.find_spec("awq").submodule_search_locations)
        else:
            paths = [os.path.join(sys.modules["awq"].__path__[0], *name.split(".")[1:])]
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = paths
    from awq.models._config import AwqConfig
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm
    return AwqConfig, WQLinear_GEMM, dequantize_gemm


def awq(source, out):
    config, packer, decode = import_awq()
    model, tensors, expected = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32), {}, {}
    for name, m in linears(model):
        scale, zero = grid(m.weight.data, 4, False, GROUP)
        scale = scale.half().float()
        codes = torch.round(m.weight.data / scale.repeat_interleave(GROUP, 1)) + zero.repeat_interleave(GROUP, 1)
        # AutoAWQ packs weights that its search has put on the grid already
        m.weight.data = (codes.clamp(0, 15) - zero.repeat_interleave(GROUP, 1)) * scale.repeat_interleave(GROUP, 1)
        layer = packer.from_linear(m, 4, GROUP, False, scale.T.contiguous(), zero.T.contiguous())
        parts = {"qweight": layer.qweight, "qzeros": layer.qzeros, "scales": layer.scales}
        tensors.update({f"{name}.{suffix}": t for suffix, t in parts.items()})
        if name in MATRICES:
            expected[name] = decode(layer.qweight, layer.qzeros, layer.scales.float(), 4, GROUP).T
    write(source, out, tensors, config(q_group_size=GROUP).to_transformers_dict())
    return expected


def hqq(source, out):
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear, Quantizer

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    config, tensors, expected = BaseQuantizeConfig(nbits=4, group_size=GROUP, axis=1), {}, {}
    for name, m in linears(model):
        linear = torch.nn.Linear(m.in_features, m.out_features, bias=False, dtype=torch.bfloat16)
        linear.weight.data.copy_(m.weight.data)
        layer = HQQLinear(linear, config, compute_dtype=torch.bfloat16, device="cpu")
        layer.encoded_state_dict = True
        tensors.update({f"{name}.{k}": v for k, v in layer.state_dict().items()})
        if name in MATRICES:
            wide = {k: v.float() if k in ("scale", "zero") else v for k, v in layer.meta.items()}
            expected[name] = Quantizer.dequantize(layer.W_q, {**wide, "compute_dtype": torch.float32})
    write(source, out, tensors, {"quant_method": "hqq", "quant_config": config, "skip_modules": ["lm_head"]})
    return expected


TOKEN = dict(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
ROWS = {
    "ct-sym": (compressed, dict(num_bits=4, symmetric=True, strategy="group", group_size=GROUP)),
    "ct-zeros": (compressed, dict(num_bits=4, symmetric=False, strategy="group", group_size=GROUP)),
    "ct-w8": (compressed, dict(num_bits=8, symmetric=True, strategy="channel")),
    "ct-w8a8": (compressed, dict(num_bits=8, symmetric=True, strategy="channel", activations=TOKEN)),
    "gptq": (gptq, dict(bits=4, sym=True)),
    "gptq-zeros": (gptq, dict(bits=4, sym=False)),
    "gptq-w3": (gptq, dict(bits=3, sym=True)),
    "gptq-v2": (gptq, dict(bits=8, sym=False, format="gptq_v2")),
    "awq": (awq, {}),
    "hqq": (hqq, {}),
}


@torch.no_grad()
def main():
    with tempfile.TemporaryDirectory() as source:
        make_source(source)
        for name, (make, args) in ROWS.items():
            folder = os.path.join(sys.argv[1], name)
            os.makedirs(folder, exist_ok=True)
            expected = {n + ".weight": (t.float() + 0.0).contiguous() for n, t in make(source, folder, **args).items()}
            save_file(expected, os.path.join(folder, "expected.safetensors"))


if __name__ == "__main__":
    main()
