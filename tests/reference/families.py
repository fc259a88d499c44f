"""Tiny random checkpoints of every family that wane knows, and what Transformers computes with them.
python3 tests/reference/families.py tests/reference     (torch and transformers 5.17; no network, no GPU)

families.json        name -> { config: config.json as Transformers writes it, ... }, and the versions that made it
families.safetensors NAME/TENSOR: the checkpoint as stored; NAME.ids (2, 24) i32; NAME.logits (2, 24, 96) f32

A NAME is FAMILY.DTYPE: bf16, f16, f32, or mixed (norms f32, attention f16, the rest bf16). Weights of one family are
the same numbers rounded to the dtype. The checkpoint is written, loaded again by from_pretrained with
dtype = float32 (so that rope frequencies are float32, as on any loaded model), and run in float32 on the CPU with the
plain attention. Weights are scaled so that every part of a layer matters: logits are of order 1."""
import json
import os
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

transformers.utils.logging.disable_progress_bar()
VOCABULARY, SEQUENCES, TOKENS = 96, 2, 24
SHAPE = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None)
LLAMA3 = dict(rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
ALL = ("bf16", "f16", "f32", "mixed")
FAMILIES = {
    # heads wider than hidden / heads, and norms over them
    "qwen3": ("qwen3", ALL, dict(head_dim=16, tie_word_embeddings=True, rope_theta=1e6)),
    "qwen3_bias": ("qwen3", ("f32",), dict(head_dim=8, attention_bias=True)),
    "qwen2": ("qwen2", ALL, dict(tie_word_embeddings=True, rope_theta=1e6, rms_norm_eps=1e-5)),
    # frequencies that stay, are stretched, and lie between; one key-value head; a head of its own
    "llama3": ("llama", ALL, dict(num_key_value_heads=1, rope_parameters=LLAMA3, rms_norm_eps=1e-5)),
    "smollm2": ("llama", ALL, dict(tie_word_embeddings=True, rope_theta=1e5, rms_norm_eps=1e-5)),
    "llama_bias": ("llama", ("f32",), dict(attention_bias=True, mlp_bias=True,
                                           rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=4.0))),
    "mistral": ("mistral", ALL, dict(head_dim=16, sliding_window=None, rope_theta=1e6)),
    # a context of 16 made 64 long: dimensions that stay, are stretched, and lie between
    "qwen3_yarn": ("qwen3", ("bf16",), dict(head_dim=16, rope_parameters=dict(
        rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=16, beta_fast=2.0))),
    "llama_yarn": ("llama", ("bf16",), dict(rope_parameters=dict(
        rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=16, beta_fast=1.5,
        beta_slow=0.25, mscale=1.0, mscale_all_dim=0.5, truncate=False))),
}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def numbers(model, generator):
    """name -> float32 tensor, drawn anew for every tensor that the checkpoint holds."""
    found = {}
    for name, w in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        noise = torch.randn(w.shape, generator=generator)
        if name.endswith("norm.weight"):
            found[name] = 1 + 0.2 * noise
        elif w.dim() == 1:
            found[name] = 0.4 * noise
        else:
            found[name] = noise if "embed_tokens" in name else noise * w.shape[1] ** -0.5
    return found


def stored(found, kind):
    def dtype(name):
        if kind != "mixed":
            return DTYPES[kind]
        return DTYPES["f32" if "norm" in name else "f16" if "self_attn" in name else "bf16"]
    return {name: w.to(dtype(name), copy=True).contiguous() for name, w in found.items()}


def main(out):
    torch.set_num_threads(1)
    about, tensors = {}, {}
    for number, (family, (model_type, kinds, changes)) in enumerate(FAMILIES.items()):
        config = AutoConfig.for_model(model_type, **{**SHAPE, **changes})
        found = numbers(AutoModelForCausalLM.from_config(config), torch.Generator().manual_seed(1000 + number))
        ids = torch.randint(3, VOCABULARY, (SEQUENCES, TOKENS), generator=torch.Generator().manual_seed(number))
        for kind in kinds:
            name, held = f"{family}.{kind}", stored(found, kind)
            with tempfile.TemporaryDirectory() as folder:
                config.dtype = DTYPES.get(kind, torch.bfloat16)
                config.architectures = [type(AutoModelForCausalLM.from_config(config)).__name__]
                config.save_pretrained(folder)
                save_file(held, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
                model, loading = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
                assert not loading["missing_keys"] and not loading["unexpected_keys"], loading
                with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
                    about[name] = {"config": json.load(file)}
                with torch.no_grad():
                    logits = model.eval()(ids).logits
                assert logits.dtype == torch.float32
            tensors[name + ".ids"], tensors[name + ".logits"] = ids.to(torch.int32), logits.contiguous()
            for key, w in held.items():
                tensors[f"{name}/{key}"] = w
            print(f"{name:16} logits {logits.std():.2f}", file=sys.stderr)
    made = {"torch": torch.__version__, "transformers": transformers.__version__, "families": about}
    with open(os.path.join(out, "families.json"), "w", encoding="utf-8") as file:
        json.dump(made, file, indent=1, sort_keys=True)
        file.write("\n")
    path = os.path.join(out, "families.safetensors")
    save_file(tensors, path)
    assert len(load_file(path)) == len(tensors)


if __name__ == "__main__":
    main(sys.argv[1])
