"""parquet.py - writes tests/reference/parquet/: Parquet files by Arrow, with the rows that each holds as JSON.

    python -m venv /tmp/arrow && /tmp/arrow/bin/pip install pyarrow==26.0.1
    /tmp/arrow/bin/python tests/reference/parquet.py

NAME.parquet and NAME.VARIANT.parquet are Arrow's, NAME.json their rows: [{...}, ...], as JSONL would have them.
refused.json lists files that must be refused: {"name", "says" (a part of the message), "hex"}; Arrow wrote some, the
others are bent by hand with the few lines of Thrift below.
"""
import io
import json
import math
import pathlib
import random

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parent / "parquet"


def plain(value):
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, tuple):  # an entry of a map
        return {"key": plain(value[0]), "value": plain(value[1])}
    return value


def save(name, table, rows=None, **options):
    pq.write_table(table, OUT / f"{name}.parquet", **options)
    rows = plain(table.to_pylist()) if rows is None else rows
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    (OUT / f"{name.split('.')[0]}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def questions(n):
    words = "which of these stars grows when water is hot and light falls on it".split()
    rng = random.Random(7)
    rows = []
    for i in range(n):
        text = " ".join(rng.choice(words) for _ in range(rng.randint(4, 20)))
        rows.append({
            "id": f"q_{i:03d}",
            "question": text + "?",
            "choices": {"text": [rng.choice(words) for _ in range(4)], "label": list("ABCD")},
            "answerKey": rng.choice("ABCD"),
        })
    return rows


def everything(n):
    """Every type that is read, with nulls in each column, columns without them, and text of all kinds."""
    rng = random.Random(3)
    texts = ["", "a", "Grüße, 世界 🌙", 'quote " and \\ and \n', "x" * 300, "\u0000 zero", "tab\t"]
    def some(value, i, every):
        return None if i % every == 0 else value
    rows = {
        "required": [i for i in range(n)],
        "text": [some(rng.choice(texts), i, 4) for i in range(n)],
        "same": ["the same" for _ in range(n)],
        "i8": [some(rng.randint(-128, 127), i, 5) for i in range(n)],
        "u8": [rng.randint(0, 255) for i in range(n)],
        "i32": [some(rng.randint(-2**31, 2**31 - 1), i, 3) for i in range(n)],
        "u32": [some(rng.randint(0, 2**32 - 1), i, 7) for i in range(n)],
        "i64": [some(rng.randint(-2**63, 2**63 - 1), i, 3) for i in range(n)],
        "u64": [rng.randint(0, 2**63 - 1) for i in range(n)],
        "f32": [some(rng.randint(-9999, 9999) / 64, i, 6) for i in range(n)],
        "f64": [some(rng.choice([rng.random(), -1e300, 5e-324, 0.0, math.nan]), i, 6) for i in range(n)],
        "truth": [some(rng.random() < 0.5, i, 9) for i in range(n)],
        "sure": [rng.random() < 0.9 for i in range(n)],
        "day": [some(i * 1000, i, 8) for i in range(n)],
        "when": [some(i * 10**9 + 1, i, 8) for i in range(n)],
        "nothing": [None for i in range(n)],
        "texts": [some([some(rng.choice(texts), rng.randint(0, 5), 5) for _ in range(rng.randint(0, 4))], i, 6)
                  for i in range(n)],
        "numbers": [[rng.randint(0, 9) for _ in range(rng.randint(0, 3))] for i in range(n)],
    }
    required = pa.field("required", pa.int32(), nullable=False)
    sure = pa.field("sure", pa.bool_(), nullable=False)
    schema = pa.schema([
        required, ("text", pa.string()), ("same", pa.string()), ("i8", pa.int8()), ("u8", pa.uint8()),
        ("i32", pa.int32()), ("u32", pa.uint32()), ("i64", pa.int64()), ("u64", pa.uint64()), ("f32", pa.float32()),
        ("f64", pa.float64()), ("truth", pa.bool_()), sure, ("day", pa.date32()), ("when", pa.timestamp("us")),
        ("nothing", pa.null()), ("texts", pa.list_(pa.string())),
        ("numbers", pa.list_(pa.field("item", pa.int64(), nullable=False))),
    ])
    arrays = [pa.array(rows[f.name], f.type) for f in schema]
    lines = [dict(zip(rows, values)) for values in zip(*rows.values())]
    return pa.Table.from_arrays(arrays, schema=schema), plain(lines)


def nested():
    """Lists of structs, lists of lists, maps, null at every level."""
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    deep = pa.struct([("name", pa.string()), ("lists", pa.list_(pa.list_(pa.int32()))),
                      ("inner", pa.struct([("x", pa.float64()), ("tags", pa.list_(pa.string()))]))])
    schema = pa.schema([("messages", pa.list_(message)), ("deep", deep), ("many", pa.list_(deep)),
                        ("map", pa.map_(pa.string(), pa.int32()))])
    d1 = {"name": "a", "lists": [[1, 2], [], None, [None, 3]], "inner": {"x": 1.5, "tags": ["t", None]}}
    d2 = {"name": None, "lists": [], "inner": None}
    d3 = {"name": "c", "lists": None, "inner": {"x": None, "tags": None}}
    d4 = {"name": "d", "lists": [[]], "inner": {"x": 0.25, "tags": []}}
    def said(*texts):
        return [{"role": "user" if i % 2 == 0 else "assistant", "content": t} for i, t in enumerate(texts)]
    rows = [
        {"messages": said("hello", "how are you?"), "deep": d1, "many": [d1, d2, d3, d4], "map": [("a", 1), ("b", None)]},
        {"messages": [], "deep": d2, "many": [], "map": []},
        {"messages": None, "deep": None, "many": None, "map": None},
        {"messages": said("one", "two", None), "deep": d3, "many": [None, d4, None], "map": [("c", 3)]},
        {"messages": [None], "deep": d4, "many": [d3], "map": None},
        {"messages": said("last"), "deep": d1, "many": [d2, d2], "map": [("z", -1)]},
    ]
    return pa.Table.from_pylist(rows, schema=schema), plain(rows)


# ---- files that are bent: Thrift's compact protocol, enough of it to write headers ----

def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


class Struct(dict):
    """{number of the field: value}; int is i32, (int,) i64, bytes binary, list a list, Struct a struct."""


def kind(value):
    if isinstance(value, bool): return 1 if value else 2
    return {int: 5, tuple: 6, bytes: 8, list: 9, Struct: 12}[type(value)]


def thrift(value):
    if isinstance(value, bool): return b""
    if isinstance(value, int): return varint(value << 1 if value >= 0 else (-value << 1) - 1)
    if isinstance(value, tuple): return thrift(value[0])
    if isinstance(value, bytes): return varint(len(value)) + value
    if isinstance(value, list):
        of = kind(value[0]) if value else 12
        head = bytes([len(value) << 4 | of]) if len(value) < 15 else bytes([0xF0 | of]) + varint(len(value))
        return head + b"".join(thrift(v) for v in value)
    out, last = bytearray(), 0
    for number in sorted(value):
        out += bytes([(number - last) << 4 | kind(value[number])]) + thrift(value[number])
        last = number
    return bytes(out) + b"\0"


def leaf(name=b"a", type=1, repetition=0, **more):
    return Struct({1: type, 3: repetition, 4: name, **{int(k[1:]): v for k, v in more.items()}})


def page(body, values, encoding=0, header=None, sizes=None, type=0, **more):
    kind_of = {0: 5, 2: 7, 3: 8}[type]
    sizes = sizes or (len(body), len(body))
    inner = header or Struct({1: values, 2: encoding, 3: 3, 4: 3})
    return thrift(Struct({1: type, 2: sizes[0], 3: sizes[1], kind_of: inner,
                          **{int(k[1:]): v for k, v in more.items()}})) + body


def file(pages, schema=None, rows=2, values=None, column=None, chunk=None, meta=None, group=None, groups=None):
    """A file with one column `a` of int32 whose chunk is the bytes in pages."""
    schema = schema or [leaf()]
    root = Struct({4: b"root", 5: len(schema)})
    values = rows if values is None else values
    data = Struct({1: schema[0][1], 2: [0, 3], 3: [schema[0][4]], 4: 0, 5: (values,), 6: (len(pages),), 7: (len(pages),), 9: (4,)})
    data.update(column or {})
    whole = Struct({2: (4,), 3: data})
    whole.update(chunk or {})
    row_group = Struct({1: [whole], 2: (len(pages),), 3: (rows,)})
    row_group.update(group or {})
    about = Struct({1: 2, 2: [root] + schema, 3: (rows,), 4: [row_group] if groups is None else groups})
    about.update(meta or {})
    footer = thrift(about)
    return b"PAR1" + pages + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def i32(*values):
    return b"".join(v.to_bytes(4, "little", signed=True) for v in values)


def refused():
    out = []

    def bad(name, says, data):
        out.append({"name": name, "says": says, "hex": data.hex()})

    def arrow(name, says, array, **options):
        sink = io.BytesIO()
        pq.write_table(pa.table({"a": array}), sink, **options)
        bad(name, says, sink.getvalue())
        return sink.getvalue()

    ints, texts = pa.array([1, 2, 3], pa.int32()), pa.array(["one", "two", "three"])
    arrow("brotli", "column a is packed with brotli", texts, compression="brotli")
    arrow("lz4", "column a is packed with lz4_raw", texts, compression="lz4")
    for array, encoding in ((ints, "DELTA_BINARY_PACKED"), (texts, "DELTA_LENGTH_BYTE_ARRAY"),
                            (texts, "DELTA_BYTE_ARRAY"), (ints, "BYTE_STREAM_SPLIT")):
        arrow(encoding.lower(), encoding, array, use_dictionary=False, column_encoding={"a": encoding})
    arrow("decimal", "column a is of type decimal", pa.array([1, 2], pa.decimal128(5, 2)))
    arrow("float16", "column a is of type float16", pa.array([1.0], pa.float16()))
    arrow("fixed", "column a is of type fixed_len_byte_array", pa.array([b"ab"], pa.binary(2)))
    arrow("int96", "column a is of type int96", pa.array([1], pa.timestamp("ns")), use_deprecated_int96_timestamps=True)
    arrow("binary", "row 2: column a is not UTF-8 text", pa.array([b"text", b"\xff\xfe"]))
    arrow("uint64", "row 1: column a is a number beyond 63 bits", pa.array([2**63], pa.uint64()))
    arrow("infinite", "row 2: column a is infinite", pa.array([1.0, math.inf]))
    checked = bytearray(arrow("checksum", "", ints, use_dictionary=False, compression="none", write_page_checksum=True))
    out.pop()
    checked[checked.index(i32(1, 2, 3))] ^= 4
    bad("checksum", "checksum", bytes(checked))
    twins = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([ints, texts], names=["a", "a"]), twins)
    bad("twins", "there are two columns a", twins.getvalue())

    good = page(i32(5, 6), 2)
    assert pq.read_table(io.BytesIO(file(good))).to_pylist() == [{"a": 5}, {"a": 6}]
    bad("empty", "not a Parquet file", b"")
    bad("text", "not a Parquet file", b'{"a": 1}\n')
    bad("pointer", "git lfs pull", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    bad("encrypted", "encrypted", b"PARE" + file(good)[4:-4] + b"PARE")
    bad("head only", "it has no footer", b"PAR1PAR1")
    bad("cut", "it does not end with PAR1", file(good)[:-5])
    bad("long footer", "the footer is longer than the file", b"PAR1" + b"\0" * 8 + (99).to_bytes(4, "little") + b"PAR1")
    bad("huge footer", "the footer is longer than the file", b"PAR1" + b"\0" * 8 + b"\xff\xff\xff\xff" + b"PAR1")
    bad("no metadata", "lacks the schema", b"PAR1" + b"\0" + (1).to_bytes(4, "little") + b"PAR1")
    bad("no columns", "the file has no columns", file(good, meta={2: [Struct({4: b"root", 5: 1})]}))
    bad("schema outside", "columns outside its groups", file(good, schema=[leaf()], meta={2: [Struct({4: b"r", 5: 1}), leaf(), leaf(b"b")]}))
    bad("schema short", "ends before all columns of a group", file(good, meta={2: [Struct({4: b"r", 5: 2}), leaf()]}))
    bad("schema deep", "nested deeper than 24", file(good, meta={2: [Struct({4: b"g", 5: 1})] * 30 + [leaf()]}))
    bad("schema lists", "lists nested deeper than 8", file(good, meta={2: [Struct({4: b"g", 5: 1})] + [Struct({3: 2, 4: b"g", 5: 1})] * 9 + [leaf()]}))
    bad("odd type", "nor of a type that Parquet has", file(good, schema=[leaf(type=9)]))
    bad("odd repetition", "nor of a type that Parquet has", file(good, schema=[leaf(repetition=3)]))
    bad("minus children", "nor of a type that Parquet has", file(good, schema=[leaf(_5=-1)]))
    bad("nameless", "a column has no name", file(good, meta={2: [Struct({4: b"r", 5: 1}), Struct({1: 1, 3: 0})]}))
    bad("name", "the name of a column is not UTF-8", file(good, schema=[leaf(b"\xff")]))
    bad("other column", "something else where column a is due", file(good, column={3: [b"b"]}))
    bad("other type", "something else where column a is due", file(good, column={1: 2}))
    bad("columns", "row group 1 has 2 columns, the schema 1", file(good, group={1: [Struct({2: (4,)})] * 2}, meta={6: b"as long as a column"}))
    bad("no columns in a group", "row group 1 has 0 columns", file(good, group={1: []}, meta={6: b"as long as a column"}))
    bad("other file", "column a lies in another file", file(good, chunk={1: b"b.parquet"}))
    bad("encrypted column", "column a is encrypted", file(good, chunk={8: Struct()}))
    bad("outside", "column a lies outside the file", file(good, column={9: (1 << 40,)}))
    bad("outside before", "column a lies outside the file", file(good, column={9: (0,)}))
    bad("outside wrap", "column a lies outside the file", file(good, column={7: (2**63 - 1,)}))
    bad("codec", "the unknown codec 77", file(good, column={4: 77}))
    bad("rows", "the footer says 3 rows, its row groups have 2", file(good, meta={3: (3,)}))
    bad("rows below zero", "lacks its columns or its number of rows", file(good, group={3: (-1,)}))
    bad("many groups", "too short for them", file(good, groups=[Struct()] * 40))
    bad("more rows", "column a ends before its row group does", file(good, rows=3, values=2))
    bad("more values", "goes on after the last row", file(page(i32(5, 6, 7), 3), rows=2, values=3))
    bad("page of more", "it has more values than its column", file(page(i32(5, 6, 7), 3), rows=2))
    bad("pages missing", "the column ends before all of its values", file(page(i32(5), 1), rows=2))
    bad("page short", "it has fewer values than it says", file(page(i32(5), 2)))
    bad("page beyond", "it is longer than its column", file(page(i32(5, 6), 2, sizes=(8, 800))))
    bad("page minus", "it is longer than its column", file(page(i32(5, 6), 2, sizes=(-8, 8))))
    bad("page sizes", "it is not packed and says two sizes", file(page(i32(5, 6), 2, sizes=(9, 8))))
    bad("page bomb", "more than a page may have", file(page(i32(5, 6), 2, sizes=(1 << 30, 8)), column={4: 6}))
    bad("page ratio", "more than a page may have", file(page(i32(5, 6), 2, sizes=(1 << 25, 8)), column={4: 6}))
    bad("page kind", "a page of no kind", file(page(i32(5, 6), 2).replace(b"\x15\0", b"\x15\x0e", 1)))
    bad("page header", "its header is damaged", file(b"\xff" * 20))
    for codec, name in ((1, "snappy"), (2, "gzip"), (6, "zstd")):
        bad(f"not {name}", f"the {name} data is damaged", file(page(i32(5, 6), 2), column={4: codec}))
    bad("no dictionary", "it needs a dictionary and there is none", file(page(b"\x01\x04\x00", 2, encoding=8)))
    first = page(i32(7, 8), 0, type=2, header=Struct({1: 2, 2: 0}))
    assert pq.read_table(io.BytesIO(file(first + page(b"\x01\x03\x02", 2, encoding=8),
                                         column={11: (4,), 9: (4 + len(first),)}))).to_pylist() == [{"a": 7}, {"a": 8}]
    bad("index", "an index is beyond the dictionary", file(first + page(b"\x02\x03\xe4", 2 + 0, encoding=8).replace(b"\xe4", b"\x0f")))
    bad("index width", "its indices are wider than 32 bits", file(first + page(b"\x21\x04\x00", 2, encoding=8)))
    bad("indices", "it has fewer indices than values", file(first + page(b"\x01\x02\x00", 2, encoding=8)))
    bad("dictionaries", "a second dictionary", file(first + first + page(b"\x01\x03\x02", 2, encoding=8)))
    bad("dictionary short", "more entries than bytes", file(page(i32(7), 0, type=2, header=Struct({1: 2, 2: 0}))))
    bad("dictionary kind", "a dictionary of no kind", file(page(i32(7), 0, type=2, header=Struct({1: 1, 2: 5}))))
    words = [leaf(type=6)]
    bad("dictionary text", "its dictionary ends within an entry", file(page(i32(9) + b"abc", 0, type=2, header=Struct({1: 1, 2: 0})), schema=words))
    bad("text beyond", "a text is longer than its page", file(page(i32(900) + b"abc", 2), schema=words))
    maybe = [leaf(repetition=1)]
    bad("levels", "it has fewer levels than values", file(page(i32(2) + b"\x02\x01" + i32(5, 6), 2), schema=maybe))
    bad("level", "a level is higher than its column's", file(page(i32(2) + b"\x04\x03" + i32(5, 6), 2), schema=maybe))
    bad("levels beyond", "its levels are longer than itself", file(page(i32(2000) + b"\x04\x01" + i32(5, 6), 2), schema=maybe))
    bad("bit packed", "BIT_PACKED", file(page(b"", 2, header=Struct({1: 2, 2: 0, 3: 4, 4: 3})), schema=maybe))
    second = Struct({1: 2, 2: 0, 3: 2, 4: 0, 5: -1, 6: 0})
    bad("levels minus", "its levels have a length below zero", file(page(i32(5, 6), 2, type=3, header=second), schema=maybe))
    second = Struct({1: 2, 2: 0, 3: 2, 4: 0, 5: 100, 6: 0})
    bad("levels two", "its levels are longer than itself", file(page(i32(5, 6), 2, type=3, header=second), schema=maybe))
    many = [leaf(repetition=2)]
    bad("list", "has lists of another length", file(page(i32(2) + b"\x04\x01" + i32(2) + b"\x04\x01" + i32(5, 6), 2), schema=many))
    return out


def main():
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob("*"):
        old.unlink()
    table, rows = everything(60)
    save("types", table, rows)
    save("types.v2", table, rows, data_page_version="2.0", compression="zstd")
    save("types.plain", table, rows, use_dictionary=False, compression="none", data_page_size=256, row_group_size=25)
    save("types.gzip", table, rows, compression="gzip", write_page_checksum=True, row_group_size=50)
    save("types.groups", table, rows, data_page_version="2.0", compression="snappy", row_group_size=25,
         data_page_size=64, write_batch_size=4, write_page_checksum=True, use_dictionary=["text", "i32"])
    names = ["required", "text", "i8", "truth", "texts", "when"]
    save("old", table.select(names), [{k: r[k] for k in names} for r in rows],
         version="1.0", coerce_timestamps="us")
    table, rows = nested()
    save("nested", table, rows)
    save("nested.v2", table, rows, data_page_version="2.0", compression="zstd", row_group_size=4)
    save("nested.old", table, rows, use_compliant_nested_type=False, compression="none", data_page_size=8,
         write_batch_size=1, row_group_size=3)
    rows = questions(40)
    save("choices", pa.Table.from_pylist(rows), rows, write_page_index=True)
    save("none", pa.Table.from_pylist(rows).slice(0, 0), [])
    save("category", pa.table({"kind": pa.array(["a", "b", None, "a", "b", "b"]).dictionary_encode(),
                               "number": pa.array([10, 20, 10, None, 20, 10])}))
    save("big", pa.table({"text": ["a long text, " * 500, "short", "b" * 20000], "n": [1, 2, 3]}), compression="zstd")
    save("large_types", pa.table({"text": pa.array(["x", None, "y"], pa.large_string()),
                                  "list": pa.array([["p"], [], None], pa.large_list(pa.large_string())),
                                  "fixed": pa.array([[1, 2], [3, 4], None], pa.list_(pa.int32(), 2))}))
    refusals = refused()
    (OUT / "refused.json").write_text(json.dumps(refusals, indent=0) + "\n")
    total = sum(f.stat().st_size for f in OUT.iterdir())
    print(f"pyarrow {pa.__version__}: {len(list(OUT.iterdir()))} files, {total} bytes, {len(refusals)} refused")


main()
