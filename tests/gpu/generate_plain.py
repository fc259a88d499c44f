#!/usr/bin/env python3
"""generate_plain.py - Transformers' `generate` in bfloat16, measured on demand beside wane.

    mkfifo plain.ask plain.answer
    python3 tests/gpu/generate_plain.py plain & wane recipes/bench.lua --parts run --beside plain

Reads lines of JSON { "model": folder, "batch": n, "context": tokens, "tokens": tokens } from NAME.ask and answers each
in NAME.answer with { "rate": tokens a second }, as wane.bench counts them: greedy, a forced number of tokens after
prompts of chance, without the first token, which comes out of the prompt's pass.
"""

import json
import sys
import time

import torch
import transformers


def load(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map="cuda")
    model.generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=0)
    return model.eval()


def seconds(model, ids, tokens):
    torch.cuda.synchronize()
    began = time.perf_counter()
    out = model.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=tokens, max_new_tokens=tokens)
    torch.cuda.synchronize()
    assert out.shape[1] == ids.shape[1] + tokens
    return time.perf_counter() - began


@torch.inference_mode()
def measure(model, batch, context, tokens):
    place = torch.arange(context, device="cuda") * 7919
    ids = (torch.arange(batch, device="cuda")[:, None] + place) % model.config.vocab_size
    first = seconds(model, ids, 1)
    return batch * (tokens - 1) / (seconds(model, ids, tokens) - first)


def main():
    name, model, folder = sys.argv[1], None, None
    with open(name + ".ask") as ask, open(name + ".answer", "w") as answer:
        for line in ask:
            request = json.loads(line)
            if request["model"] != folder:
                model = None
                torch.cuda.empty_cache()
                folder = request["model"]
                model = load(folder)
                measure(model, 1, 8, 8)  # what is made at the first call is not measured
            rate = measure(model, request["batch"], request["context"], request["tokens"])
            print(json.dumps({"rate": rate}), file=answer, flush=True)


if __name__ == "__main__":
    main()
