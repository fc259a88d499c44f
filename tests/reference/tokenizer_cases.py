"""Writes tokenizer_cases.json: tokenizer.json files with every component that wane reads, and what
Hugging Face's tokenizers makes of some texts with them.

    pip install tokenizers==0.23.3; python3 tests/reference/tokenizer_cases.py

The base is a byte-level vocabulary of 256 characters and some merges; a case replaces parts of it
("replace") and lists texts with their ids: plain, with the template, and with special tokens as text."""
import json
import os

from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))


def alphabet():
    """GPT-2's characters for the bytes 0..255."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = iter(range(0x100, 0x200))
    return [chr(b) if b in visible else chr(next(rest)) for b in range(256)]


MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld", "t o", "k e", "to ke",
          "Ġ Ġ", "ĠĠ ĠĠ", "a b", "a a", "aa b", "1 2", "12 3", "Ã ©", "' s", "Ċ Ċ", "i n", "e n", "to k"]


def base():
    vocab = {c: i for i, c in enumerate(alphabet())}
    for merge in MERGES:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    vocab["hello world"] = len(vocab)  # a space is not in the alphabet: found by id alone
    vocab["Ġhello"] = len(vocab)  # no merge leads here: ignore_merges finds it
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": byte_level(False, False),
        "post_processor": None,
        "decoder": byte_level(True, True),
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": False, "vocab": vocab, "merges": MERGES},
    }


def byte_level(prefix, regex):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def steps(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def added(number, content, special=True, normalized=False, single_word=False, lstrip=False, rstrip=False):
    vocab = base()["model"]["vocab"]
    return {"id": vocab.get(content, len(vocab) + number), "content": content, "single_word": single_word, "lstrip": lstrip,
            "rstrip": rstrip, "normalized": normalized, "special": special}


def template(before, after, tokens):
    special = [{"SpecialToken": {"id": t, "type_id": 0}} for t in before + after]
    return {"type": "TemplateProcessing",
            "single": special[:len(before)] + [{"Sequence": {"id": "A", "type_id": 0}}] + special[len(before):],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t["content"]: {"id": t["content"], "ids": [t["id"]], "tokens": [t["content"]]}
                               for t in tokens}}


QWEN = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
LLAMA = QWEN.replace("\\p{N}|", "\\p{N}{1,3}|")
MARKS = QWEN.replace("\\p{L}+", "[\\p{L}\\p{M}]+", 1).replace("[^\\s\\p{L}\\p{N}]", "[^\\s\\p{L}\\p{M}\\p{N}]")
O200K = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")

TEXTS = ["", "hello world", " hello  world", "it's 'S 'ſ I'LL don't", "tokens in the 12345 \r\n\r\n  end  ",
         "café cafe\u0301 \u1e9b\u0323 q\u0323\u0307 q\u0307\u0323", "中文 テスト 한국어 \u1112\u1161\u11ab",
         "a\u00a0b\u3000c\u2028d\u0085e\u180ef", "aaab aab aaaaaaab", "x\u0301y\u200dz\u200c", "²³½ ٣٤٥ Ⅳ",
         "\ufffd\ufeff\u0000\u001f", "🙂👩‍👩‍👧", "A_b-C.d,e", "HTMLParser fooBar", "'", "' s", "\n", " ", "\t\thello",
         "\u0344\u0958\ufb1d\U0001d15e\u212b", "hello world" * 40]
NEWER = TEXTS + ["\U00011f02\U00031350\U0001e030\u1c89\U00010d4a\u0897\U00010d40"]  # of Unicode 15 and 16
MARKED = ["<s>hello</s>", "<s> hello </s> <m> x<m> <m>x <m>", "<n>é<n>e\u0301 tok token", "T  <b>x T <b>",
          "<s<s>><s>>", "<ab><abc><a", " <l>  <r>  <lr>  "]


def cases():
    yield "gpt2", {"pre_tokenizer": byte_level(False, True)}, NEWER
    yield "prefix space", {"pre_tokenizer": byte_level(True, True)}, TEXTS
    yield "no regex", {}, TEXTS
    yield "nfc", {"normalizer": {"type": "NFC"}}, TEXTS
    yield "nfc sequence", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}}, TEXTS
    for name, pattern, texts in (("qwen", QWEN, NEWER), ("llama", LLAMA, NEWER), ("marks", MARKS, NEWER), ("o200k", O200K, TEXTS)):
        yield name, {"pre_tokenizer": steps(split(pattern), byte_level(True, False))}, texts
    yield "ignore merges", {"model.ignore_merges": True, "pre_tokenizer": byte_level(False, True)}, TEXTS
    yield "merge pairs", {"model.merges": [m.split(" ") for m in MERGES]}, TEXTS
    yield "late merges", {"model.merges": MERGES[::-1]}, TEXTS
    yield "merge twice", {"model.merges": MERGES + ["l l", "h e"]}, TEXTS
    yield "digits", {"pre_tokenizer": steps({"type": "Digits", "individual_digits": True}, byte_level(False, True))}, TEXTS
    yield "digit runs", {"pre_tokenizer": steps({"type": "Digits", "individual_digits": False}, byte_level(True, False))}, TEXTS
    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            for pattern, kind in (("\\s", "Regex"), ("a|b|", "Regex"), ("l", "String")):
                yield (f"{behavior} {invert} {pattern}",
                       {"pre_tokenizer": steps(split(pattern, behavior, invert, kind), byte_level(True, False))}, TEXTS)
    yield "words", {"pre_tokenizer": steps(split("\\w+|[^\\w\\s]+", "Removed", True), split("[\\w-]"), byte_level(True, False))}, TEXTS
    yield "escapes", {"pre_tokenizer": steps(split("\\u4e2d|\\v|\\p{^L}\\P{N}|\\p{Han}|\\d{2}|(?<=a)b(?!b)"), byte_level(True, False))}, TEXTS
    tokens = [added(0, "<s>"), added(1, "</s>", lstrip=True), added(2, "<m>", single_word=True),
              added(3, "<n>", special=False), added(0, "tok", special=False, normalized=True, single_word=True),
              added(0, "T", rstrip=True), added(4, " <b>"), added(5, "<ab>"), added(6, "<a"), added(7, "<abc"),
              added(8, "<l>", lstrip=True), added(9, "<r>", rstrip=True), added(10, "<lr>", lstrip=True, rstrip=True),
              added(11, "Ġé", special=False)]
    around = template(["<s>"], ["</s>"], tokens[:2])
    for name, more in (("added", {}), ("added nfc", {"normalizer": {"type": "NFC"}}),
                       ("added in pieces", {"pre_tokenizer": steps(split(QWEN), byte_level(True, False))})):
        yield name, {"added_tokens": tokens, "post_processor": around, **more}, TEXTS[:12] + MARKED
    yield ("template in a sequence",
           {"added_tokens": tokens[:2], "post_processor": {"type": "Sequence", "processors": [byte_level(True, True), around]},
            "decoder": {"type": "Sequence", "decoders": [byte_level(False, False)]}}, TEXTS[:6] + MARKED)


def main():
    out = []
    for name, replace, texts in cases():
        tokenizer = base()
        for key, value in replace.items():
            if key.startswith("model."):
                tokenizer["model"][key[6:]] = value
            else:
                tokenizer[key] = value
        t = Tokenizer.from_str(json.dumps(tokenizer))
        rows = []
        for text in texts:
            row = {"text": text, "ids": t.encode(text, add_special_tokens=False).ids}
            row["special"] = t.encode(text, add_special_tokens=True).ids
            t.encode_special_tokens = True
            row["plain"] = t.encode(text, add_special_tokens=False).ids
            t.encode_special_tokens = False
            for key in ("special", "plain"):
                if row[key] == row["ids"]:
                    del row[key]
            row["decoded"] = t.decode(row["ids"], skip_special_tokens=False)
            row["skipped"] = t.decode(row["ids"], skip_special_tokens=True)
            for key in ("decoded", "skipped"):
                if row[key] == text:
                    del row[key]
            rows.append(row)
        out.append({"name": name, "replace": replace, "texts": rows})
    with open(os.path.join(HERE, "tokenizer_cases.json"), "w", encoding="utf-8") as f:
        json.dump({"base": base(), "cases": out}, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
