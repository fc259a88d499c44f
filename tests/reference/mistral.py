"""Writes a tiny Mistral checkpoint with a tokenizer of SentencePiece's kind, and what other programs make of it.

    pip install tokenizers==0.23.3 transformers==5.17 torch sentencepiece==0.2.3 protobuf
    python3 tests/reference/mistral.py

mistral/                 config.json, model.safetensors, tokenizer.json, tokenizer_config.json, generation_config.json
mistral/expected.json    chats: messages, the prompt that Transformers renders, its ids, and its greedy answer in float32
tokenizer_mistral.json   tokenizers with every component of this kind that wane reads, and what tokenizers 0.23 makes of
                         texts with them: as tokenizer_cases.py; each case replaces parts of mistral/tokenizer.json

The tokenizer is trained here, by SentencePiece on the texts of examples/data and the lines below, as Mistral's is: BPE
with byte_fallback, digits one by one, <unk>, <s>, </s>, [INST] and [/INST] first. Its merges are told by Transformers'
converter. The weights are random."""
import glob
import io
import json
import os
import random

import sentencepiece
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import generate_merges

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "..", "examples", "data", "*.jsonl")
LINES = ["Le café noir déçoit Zoë à Noël; où est la forêt?", "Die Größe der Äpfel über Österreich.",
         "Сегодня луна убывает над рекой.", "今天月亮很圆，我们去看月亮。", "こんにちは世界。月がきれいですね。",
         "달이 기울고 있습니다.", "مرحبا بالعالم", "नमस्ते दुनिया", "def f(x):\n    return x ** 2\n\n\tif x:  pass"]


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def corpus():
    for path in sorted(glob.glob(DATA)):
        with open(path, encoding="utf-8") as file:
            for line in file:
                for text in strings(json.loads(line)):
                    yield from text.split("\n")
    for _ in range(20):
        yield from LINES


def train():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(), model_writer=model, model_type="bpe", vocab_size=1400, byte_fallback=True,
        character_coverage=0.9995, split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, control_symbols=["[INST]", "[/INST]"], num_threads=1, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


UNSPACE = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
BYTES, FUSE = {"type": "ByteFallback"}, {"type": "Fuse"}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
PREPEND = {"type": "Prepend", "prepend": "▁"}


def metaspace(scheme, split=False, **more):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split, **more}


def normal(*steps):
    return {"type": "Sequence", "normalizers": list(steps)}


def cut(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def decode(*steps):
    return {"type": "Sequence", "decoders": list(steps)}


def added(number, content, **more):
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True, **more}


def tokenizer_json(processor):
    size = processor.vocab_size()
    vocab = {processor.id_to_piece(i): i for i in range(size)}
    scores = {processor.id_to_piece(i): processor.get_score(i) for i in range(size)}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(i, processor.id_to_piece(i)) for i in range(5)],
        "normalizer": normal(PREPEND, SPACE), "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": decode(UNSPACE, BYTES, FUSE, STRIP),
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": [" ".join(pair) for pair in generate_merges(vocab, scores)]},
    }


TEXTS = ["", " ", "  ", "a", " a", "a ", "The moon wanes.", " The  moon   wanes ", "Hello world\n\n\tnew line\r\n",
         "▁", "▁▁", "▁a", "a▁b", " ▁ a", "x  ▁ ▁▁  y", "123,456.789 12:30", "It's WE'LL i'd naïve CAFÉ",
         "cafe\u0301 \u1e9b\u0323 \ufb01", "今天月亮很圆，我们去看月亮。", "こんにちは世界 テスト", "달이 기울고 있습니다",
         "Сегодня луна убывает", "مرحبا بالعالم", "नमस्ते दुनिया", "ไม่เป็นไร", "🙂", "🙂👩‍👩‍👧 🇨🇭 e🙂e", "\u00a0a\u3000b\u2028c\u0085d\u200be",
         "\ufeff\u0000\u001f\u007f", "\ufffd", "\U0010ffff\U00020000", "<s>", "</s>", "<s>a</s>", " <s> a </s> b", "a<s>b <s>  c",
         "[INST] What is 2 + 2? [/INST]", "<s>[INST] hi [/INST] ho</s>[INST]x[/INST]", "<unk>", "a<unk>b", "<0x0A>", "<0xZZ> <0x41>",
         "<s<s>><s>>", "[INST][INST]", "def f(x):\n    return x ** 2  # code\n", "\\boxed{42}", "a" * 150, " " * 40, "▁" * 33,
         "\n" * 130, "🙂" * 33, "ab " * 50, "\u0301" * 20, "日本" * 50]
SHORT = ["", " ", "a", " a b", "ab xab", "xay", "xyzab zz", "a▁b ▁ b", "axbyaz", "qxa", "xxabxx", "\n", "é", "a<s>b", "<s> a <s>x"]
SMALL = {"<unk>": 0, "a": 1, "b": 2, "▁": 3, "ab": 4, "▁a": 5, "<0x78>": 6, "<0x71>": 7, "<0xC3>": 8, "<s>": 9, "▁ab": 10,
         "b▁": 11, "<0x0a>": 12, "<0xZZ>": 13, "<0x+A>": 14, "<0xA9>": 15}


def small(**more):
    """A model of a few tokens, whose bytes are not all there; nothing beside it but what the case says."""
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": False, "byte_fallback": True, "vocab": SMALL,
             "merges": ["a b", "▁ a", "▁a b"]}
    model.update(more)
    return {"model": model, "post_processor": None, "added_tokens": [added(9, "<s>")]}


def cases():
    first = {"normalizer": None, "pre_tokenizer": metaspace("first")}
    yield "prefix by the normalizer", {}, TEXTS
    yield "prefix before the first", first, TEXTS
    yield "prefix always", {**first, "pre_tokenizer": metaspace("always")}, TEXTS
    yield "prefix never", {**first, "pre_tokenizer": metaspace("never"), "decoder": decode(UNSPACE, BYTES, FUSE)}, TEXTS
    yield ("words, by Metaspace alone", {"normalizer": None, "pre_tokenizer": metaspace("always", True),
                                         "decoder": metaspace("always", True)}, TEXTS)
    yield ("words before the first", {"normalizer": None, "pre_tokenizer": metaspace("first", True),
                                      "decoder": metaspace("first")}, TEXTS)
    yield ("words, never", {"normalizer": None, "pre_tokenizer": metaspace("never", True, add_prefix_space=False),
                            "decoder": decode(BYTES, metaspace("never"))}, TEXTS)
    yield ("spaces replaced and split", {"normalizer": SPACE, "decoder": decode(UNSPACE, BYTES, FUSE), "pre_tokenizer": {
        "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}}, TEXTS)
    yield "nfc", {"normalizer": normal({"type": "NFC"}, PREPEND, SPACE)}, TEXTS[:36]
    yield ("digits, then Metaspace", {"normalizer": None, "pre_tokenizer": cut(
        {"type": "Digits", "individual_digits": True}, metaspace("first"))}, TEXTS)
    yield ("digits, then Metaspace always", {"normalizer": None, "pre_tokenizer": cut(
        {"type": "Digits", "individual_digits": False}, metaspace("always", True))}, TEXTS)
    yield ("another character", {"normalizer": normal({"type": "Replace", "pattern": {"String": "moon"}, "content": "▁"}),
                                 "pre_tokenizer": {"type": "Metaspace", "replacement": "_"}}, TEXTS)
    yield "whole words at once", {"model.ignore_merges": True, "pre_tokenizer": metaspace("always", True), "normalizer": None}, TEXTS[:36]
    yield "no prefix", {"normalizer": normal(PREPEND, {"type": "Prepend", "prepend": ""}, SPACE), "decoder": decode(FUSE, UNSPACE)}, TEXTS[:36]
    tokens = [added(i, t) for i, t in enumerate(("<unk>", "<s>", "</s>", "[INST]", "[/INST]"))]
    more = [added(1400, "<n>", normalized=True, special=False), added(1401, "<m> x", special=False, normalized=True),
            added(1402, "<l>", lstrip=True), added(1403, "<r>", rstrip=True, special=False), added(1404, "▁<w>", special=False),
            added(1405, "moon", single_word=True, special=False), added(1406, "🙂", special=False)]
    marked = ["<n>", "a<n>b", " <n> <n>", "<n><m> x", "<m> x", " <m> x <m>", "a <l> b <r> c", "<r>  <l>", "▁<w> <w> a<w>",
              "moon moons the moon", "🙂🙂", "<s><n>a", "<n>▁a", "a ▁<n>"]
    for name, change in (("added", {}), ("added, before the first", first),
                         ("added, always", {**first, "pre_tokenizer": metaspace("always")})):
        yield name, {"added_tokens": tokens + more, **change}, TEXTS[:20] + marked
    for fuse in (False, True):
        for fallback in (False, True):
            yield f"unknown, fuse {fuse}, bytes {fallback}", small(fuse_unk=fuse, byte_fallback=fallback), SHORT
    yield ("unknown, spaces in the middle", {**small(vocab={**SMALL, "a▁": 16, "▁▁": 17},
                                                     merges=["a ▁", "b ▁", "a b", "▁ ▁"])}, SHORT)
    yield ("unknown, which ends as a space", {**small(vocab={**SMALL, "?▁": 16, "?▁▁": 17, "?▁▁a": 18}, unk_token="?▁",
                                                      merges=["?▁ ▁", "?▁▁ a", "a b"])}, SHORT)
    yield ("unknown, merged", {**small(vocab={**SMALL, "<unk>a": 16, "<0x78>a": 17, "<unk><unk>": 18}, fuse_unk=False,
                                       merges=["<unk> a", "<0x78> a", "<unk> <unk>"])}, SHORT)
    yield "nothing but bytes", {"model.unk_token": None}, TEXTS[:30]
    yield ("decoders in another order", {"decoder": decode(BYTES, UNSPACE, {**STRIP, "start": 2}, FUSE,
                                                           {"type": "Replace", "pattern": {"String": "oo"}, "content": "0"})}, TEXTS)
    yield "strip each", {"decoder": decode(UNSPACE, STRIP, decode(BYTES, FUSE))}, TEXTS[:30]
    yield "bytes as they are spelled", {"decoder": decode(UNSPACE, FUSE)}, TEXTS[:30]
    yield "no steps", {"decoder": decode()}, TEXTS[:30]


def decoded_ids(tokenizer, size):
    """Ids that no text gives: bytes that are no UTF-8, special tokens in between, ids without a token."""
    draw = random.Random(1)
    yield from ([], [size + 5], [0], [1, 2], [1, size + 5, 2])
    for number in range(24):
        yield [draw.randrange(size) if draw.random() < 0.4 else draw.randrange(min(size, 261)) for _ in range(number)]
    for text in ("é🙂", "▁", "a\u0301"):
        ids = [tokenizer.token_to_id(f"<0x{b:02X}>") for b in text.encode()]
        if None not in ids:
            yield from (ids, ids[1:], ids[:-1], [2] + ids, ids[:1] + [2] + ids[1:], ids + ids[:2])


def lay(base, replace):
    tokenizer = json.loads(json.dumps(base))
    for key, value in replace.items():
        if key.startswith("model."):
            tokenizer["model"][key[6:]] = value
        else:
            tokenizer[key] = value
    return Tokenizer.from_str(json.dumps(tokenizer))


def records(base):
    for name, replace, texts in cases():
        t, rows = lay(base, replace), []
        for text in texts:
            row = {"text": text, "ids": t.encode(text, add_special_tokens=False).ids, "special": t.encode(text).ids}
            t.encode_special_tokens = True
            row["plain"] = t.encode(text, add_special_tokens=False).ids
            t.encode_special_tokens = False
            row = {key: value for key, value in row.items() if key in ("text", "ids") or value != row["ids"]}
            row["decoded"] = t.decode(row["ids"], skip_special_tokens=False)
            row["skipped"] = t.decode(row["ids"], skip_special_tokens=True)
            rows.append({key: value for key, value in row.items() if key not in ("decoded", "skipped") or value != text})
        size = len(replace["model"]["vocab"]) if "model" in replace else len(base["model"]["vocab"])
        decodes = [{"ids": ids, "text": t.decode(ids, skip_special_tokens=False)} for ids in decoded_ids(t, size)]
        yield {"name": name, "replace": replace, "texts": rows, "decodes": decodes}


TEMPLATE = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}"
            "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
            "{% for turn in turns %}{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
            "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
            "{% if turn['role'] == 'user' %}{{ '[INST] ' + (system if loop.first else '') + turn['content'] + ' [/INST]' }}"
            "{% else %}{{ ' ' + turn['content'] | trim + eos_token }}{% endif %}{% endfor %}")
CHATS = [[{"role": "user", "content": "Why does the moon wane?"}],
         [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "What is 2 + 2?"}],
         [{"role": "user", "content": "Où est la lune?"}, {"role": "assistant", "content": " Là-haut. 🌙 "},
          {"role": "user", "content": "  今天月亮很圆\n"}]]


def write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")


def checkpoint(folder, vocabulary):
    config = transformers.MistralConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=None,
        sliding_window=None, rope_theta=1e6, tie_word_embeddings=False, architectures=["MistralForCausalLM"])
    model = transformers.MistralForCausalLM(config).eval()
    draw = torch.Generator().manual_seed(42)
    weights = {}
    for name, w in model.state_dict().items():
        noise = torch.randn(w.shape, generator=draw)
        w = 1 + 0.2 * noise if name.endswith("norm.weight") else noise if "embed" in name else noise * w.shape[1] ** -0.5
        weights[name] = w.to(torch.bfloat16)
    config.dtype = torch.bfloat16
    config.save_pretrained(folder)
    path = os.path.join(folder, "model.safetensors")
    save_file(weights, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)
    write(folder, "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "_from_model_config": True})
    model.load_state_dict({name: w.float() for name, w in weights.items()})
    return model


def answers(model, raw, folder):
    render = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE)
    for messages in CHATS:
        prompt = render.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = raw.encode(prompt, add_special_tokens=False).ids
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids):].tolist()
        yield {"messages": messages, "prompt": prompt, "ids": ids, "answer": out,
               "text": raw.decode(out, skip_special_tokens=True)}


def main():
    torch.set_num_threads(1)
    folder = os.path.join(HERE, "mistral")
    os.makedirs(folder, exist_ok=True)
    base = tokenizer_json(train())
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(base, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")
    write(folder, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True,
                                            "model_max_length": 512, "tokenizer_class": "LlamaTokenizer", "chat_template": TEMPLATE})
    with open(os.path.join(HERE, "tokenizer_mistral.json"), "w", encoding="utf-8") as file:
        json.dump({"file": "mistral/tokenizer.json", "cases": list(records(base))}, file, ensure_ascii=False,
                  separators=(",", ":"))
        file.write("\n")
    model = checkpoint(folder, len(base["model"]["vocab"]))
    write(folder, "expected.json", {"transformers": transformers.__version__, "torch": torch.__version__,
                                    "chats": list(answers(model, Tokenizer.from_str(json.dumps(base)), folder))})


if __name__ == "__main__":
    main()
