#!/usr/bin/env python3
"""load_formats.py: the checkpoints of load_formats.lua, loaded by the programs they are for.

    load_formats.py OUT [--only PATTERN] [--questions N] [--dtype bfloat16|float16|float32] [--generate]

Every OUT/MODEL_FORMAT is loaded by Hugging Face Transformers, with compressed-tensors, or gptqmodel and optimum, beside
it; HQQ's by the hqq library's own layers, as Transformers 5 does not read them. Last logits of each question and greedy
answers are compared with wane's (OUT/MODEL_FORMAT.json). An answer is the same where each of its tokens, and its end, is
the likeliest after those before it, which one pass over question and answer shows; tied where others are as likely (bf16
has few numbers), so that greedy decoding may take either. --generate decodes token by token instead. One JSON line for each folder; exit 1 where a relative error is 2e-2 or more. W8A8 may have 6e-2: activations rounded to int8 turn any difference into steps of 1/127, so that the same
computation by PyTorch in float32 and in float64 differs by 2.7e-2, and compressed-tensors divides by 127.5 besides."""
import argparse
import glob
import json
import os
import re
import sys
import time
from importlib import metadata

import torch
from transformers import AutoModelForCausalLM

PACKAGES = ["torch", "transformers", "compressed-tensors", "gptqmodel", "optimum", "hqq"]
MOST = 64  # tokens of an answer, as load_formats.lua asks for
LIMIT, ROUNDED = 2e-2, 6e-2


def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def load_hqq(folder, dtype, device):
    """A dense model whose quantized layers are hqq's own, each from the folder's tensors."""
    from hqq.core.quantize import HQQBackend, HQQLinear
    from safetensors.torch import load_file
    from transformers import AutoConfig

    tensors = load_file(os.path.join(folder, "model.safetensors"))
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    plain = {name: t for name, t in tensors.items() if name in model.state_dict()}
    model.load_state_dict(plain, strict=False)
    model.tie_weights()
    model.to(device)
    HQQLinear.set_backend(HQQBackend.PYTORCH)
    for name in sorted(n[:-len(".W_q")] for n in tensors if n.endswith(".W_q")):
        layer = HQQLinear(None, None, compute_dtype=dtype, device=device, initialize=False)
        layer.load_state_dict({n[len(name) + 1:]: t for n, t in tensors.items() if n.startswith(name + ".")})
        parent, _, last = name.rpartition(".")
        weight = layer.dequantize().to(dtype)
        target = getattr(model.get_submodule(parent), last)
        target.weight = torch.nn.Parameter(weight.to(device), requires_grad=False)
    return model.eval()


def load(folder, dtype, device):
    with open(os.path.join(folder, "config.json")) as f:
        method = json.load(f)["quantization_config"]["quant_method"]
    if method == "hqq":
        return load_hqq(folder, dtype, device), "hqq"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=device)
    beside = "compressed-tensors" if method == "compressed-tensors" else "gptqmodel"
    return model.eval(), beside


def until_end(ids, ends):
    for i, token in enumerate(ids):
        if token in ends:
            return ids[:i]
    return ids


def decodes(model, ids, answer, ends):
    out = model.generate(ids, max_new_tokens=MOST, do_sample=False)[0, ids.shape[1]:].tolist()
    return until_end(out, ends) == answer


def follows(logits, answer, ends):
    """Whether greedy decoding gives the answer, by the logits after the question and after each of its tokens: "same",
    "tied" or "other"; and how far the answer's token lies below the likeliest, as a part of that one's logit."""
    steps = [[token] for token in answer] + ([sorted(ends)] if len(answer) < MOST else [])
    verdict = "same"
    for step, tokens in zip(logits, steps):
        if int(step.argmax()) in tokens:
            continue
        gap = float((step.max() - step[tokens].max()) / step.max().abs())
        if gap > 0:
            return "other", gap
        verdict = "tied"
    return verdict, 0.0


@torch.no_grad()
def compare(model, page, device, generate):
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    difference = size = 0.0
    told, gap = {"same": 0, "tied": 0, "other": 0}, 0.0
    for q in page["questions"]:
        answer = until_end(q["answer"], ends)
        ids = torch.tensor([q["ids"] + answer], device=device)
        logits = model(ids).logits[0, len(q["ids"]) - 1:].double().cpu()
        mine = torch.tensor(q["logits"], dtype=torch.float64)
        difference += float((mine - logits[0]).square().sum())
        size += float(mine.square().sum())
        if generate:
            verdict, short = "same" if decodes(model, ids[:, :len(q["ids"])], answer, ends) else "other", 0.0
        else:
            verdict, short = follows(logits, answer, ends)
        told[verdict] += 1
        gap = max(gap, short)
    return (difference / size) ** 0.5, {**told, "gap": gap, "questions": len(page["questions"])}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--only", default="")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--generate", action="store_true")
    o = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = [p[:-len(".json")] for p in sorted(glob.glob(os.path.join(o.out, "*.json")))]
    found = [p for p in found if re.search(o.only, os.path.basename(p))]
    versions = {p: version(p) for p in PACKAGES}
    bad = 0 if found else 1
    for folder in found:
        with open(folder + ".json") as f:
            page = json.load(f)
        page["questions"] = page["questions"][:o.questions]
        line = {"name": os.path.basename(folder), "format": page["format"], "label": page["label"], "device": device,
                "dtype": o.dtype}
        began = time.time()
        try:
            model, beside = load(folder, getattr(torch, o.dtype), device)
            error, told = compare(model, page, device, o.generate)
            layer = type(model.model.layers[0].mlp.down_proj).__name__
            line.update(loader=f"{beside} {versions[beside]}", layer=layer, error=error, **told)
            bad += not error < (ROUNDED if page["label"].endswith("a8") else LIMIT)
            del model
        except Exception as e:  # what a loader cannot do is a result, too
            line["failed"] = f"{type(e).__name__}: {e}"[:300]
            bad += 1
        line["seconds"] = round(time.time() - began, 1)
        print(json.dumps(line), flush=True)
    print(json.dumps({"versions": versions, "date": time.strftime("%Y-%m-%d")}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
