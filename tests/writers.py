#!/usr/bin/env python3
"""Random tables written by pyarrow, Polars and DuckDB: every kept value of every row is the input's, or the row has an error.

    tests/writers.py BINARY MODEL TABLES
"""

import datetime, decimal, json, math, random, subprocess, sys, tempfile
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq

WORDS = ["", "grain", "né", "\U0001f33e", 'a,b\n"c"', "long " * 40, "0", "null", "\\N"]


def value(kind, rng):
    """A value of a kind."""
    match kind:
        case "bool":
            return rng.random() < 0.5
        case "int32":
            return rng.randint(-(2**31), 2**31 - 1)
        case "int64":
            return rng.choice([0, -1, 2**63 - 1, -(2**63), 2**53 + 1, rng.randint(0, 9)])
        case "double":
            return rng.choice([0.1, -2.5, 1e300, 5e-324, rng.random()])
        case "string":
            return rng.choice(WORDS)
        case "date":
            return datetime.date(1900, 1, 1) + datetime.timedelta(rng.randrange(90_000))
        case "timestamp":
            return datetime.datetime(2000, 1, 1) + datetime.timedelta(microseconds=rng.randrange(10**15))
        case "decimal":
            return decimal.Decimal(rng.randrange(-(10**12), 10**12)).scaleb(-3)
        case "list":
            return [rng.choice([None, rng.randrange(99)]) for _ in range(rng.randrange(4))]
        case "struct":
            return {"a": rng.choice(WORDS), "b": rng.choice([None, rng.randrange(99)])}


TYPES = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "decimal": pa.decimal128(18, 3),
    "list": pa.list_(pa.int64()),
    "struct": pa.struct([("a", pa.string()), ("b", pa.int64())]),
}


def table(rng, kinds):
    rows = rng.choice([1, 7, 100, 3000])
    columns = {"q": pa.array([f"grain {i % 5}" for i in range(rows)])}
    for i, kind in enumerate(kinds):
        nulls = rng.choice([0, 0, 0.2, 1])
        values = [None if rng.random() < nulls else value(kind, rng) for _ in range(rows)]
        columns[f"c{i}"] = pa.array(values, TYPES[kind])
    return pa.table(columns)


def write(made, folder, rng):
    """Writes a table in a random way, and returns the file and what wrote it."""
    writer = rng.choice(["pyarrow", "polars", "duckdb", "feather", "stream", "jsonl", "csv"])
    flat = not any(pa.types.is_nested(field.type) for field in made.schema)
    exact = all(str(field.type) in ("string", "int32", "int64", "bool") for field in made.schema)
    if (writer == "csv" and not flat) or (writer in ("csv", "jsonl") and not exact):
        writer = "pyarrow"
    group = rng.choice([1, 10, 1000, 10**6])
    if writer == "pyarrow":
        codec = rng.choice(["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
        version, dictionary = rng.choice(["1.0", "2.0"]), rng.random() < 0.5
        how = dict(compression=codec, data_page_version=version, use_dictionary=dictionary, row_group_size=max(group, 10))
        how |= dict(data_page_size=rng.choice([100, 10**6]), write_statistics=rng.random() < 0.5)
        if rng.random() < 0.3 and not dictionary:
            how["use_byte_stream_split"] = [f.name for f in made.schema if f.type == pa.float64()]
        pq.write_table(made, folder / "in.parquet", **how)
        return "in.parquet", f"pyarrow {how}"
    if writer == "polars":
        codec = rng.choice(["uncompressed", "snappy", "gzip", "brotli", "lz4", "zstd"])
        polars.from_arrow(made).write_parquet(folder / "in.parquet", compression=codec, row_group_size=group)
        return "in.parquet", f"polars {codec}"
    if writer == "duckdb":
        codec = rng.choice(["uncompressed", "snappy", "gzip", "brotli", "lz4_raw", "zstd"])
        version = rng.choice(["V1", "V2"])
        duckdb.sql(
            f"COPY (SELECT * FROM made) TO '{folder}/in.parquet' (FORMAT parquet, CODEC {codec}, PARQUET_VERSION {version})"
        )
        return "in.parquet", f"duckdb {codec} {version}"
    if writer == "feather":
        codec = rng.choice(["uncompressed", "lz4", "zstd"])
        pa.feather.write_feather(made, folder / "in.feather", compression=codec, chunksize=max(group, 10))
        return "in.feather", f"feather {codec}"
    if writer == "stream":
        with pa.ipc.new_stream(str(folder / "in.arrow"), made.schema) as stream:
            stream.write_table(made, max_chunksize=max(group, 10))
        return "in.arrow", "stream"
    if writer == "jsonl":
        lines = (json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in made.to_pylist())
        (folder / "in.jsonl").write_text("".join(line + "\n" for line in lines))
        return "in.jsonl", "json"
    options = pa.csv.WriteOptions(quoting_style="needed")
    pa.csv.write_csv(made, folder / "in.csv", options)
    return "in.csv", "csv"


def same(a, b, kind):
    if kind == "double" and a is not None and b is not None:
        return a == b or (math.isnan(a) and math.isnan(b))
    return a == b


def text(value):
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def check(binary, model, seed):
    rng = random.Random(seed)
    kinds = [rng.choice(list(TYPES)) for _ in range(rng.randrange(1, 8))]
    if rng.random() < 0.3:
        kinds = [kind if kind in ("string", "int64") else "string" for kind in kinds]
    made = table(rng, kinds)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        name, how = write(made, folder, rng)
        command = [binary, "run", "--device", "cpu", "--model", model, "-i", name, "-o", "out.parquet"]
        command += ["--prompt-column", "q", "--max-tokens", "1", "--temperature", "0", "--on-corrupt", "row-errors"]
        command += ["--max-error-rate", "1"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert ran.returncode == 0, f"seed {seed}, {how}: {ran.stderr}"
        out = pq.read_table(folder / "out.parquet")
        errors = out["error"].to_pylist()
        assert len(errors) == made.num_rows, f"seed {seed}, {how}: {len(errors)} rows"
        for i, kind in enumerate(["string", *kinds]):
            column = made.schema.names[i]
            values, kept = made[column].to_pylist(), out[column].to_pylist()
            if name.endswith("csv"):
                # Which type a column gets is its fields' doing; none may be printed otherwise than it was written.
                values, kept, kind = [text(v) for v in values], [text(v) for v in kept], "string"
            for row, (a, b) in enumerate(zip(values, kept)):
                assert errors[row] or same(a, b, kind), f"seed {seed}, {how}, column {column}, row {row}: {a!r} became {b!r}"
        verified = subprocess.run([binary, "verify", "out.parquet"], cwd=folder, capture_output=True, text=True)
        assert verified.returncode == 0, f"seed {seed}, {how}: {verified.stderr}"
    return how.split()[0]


def main():
    binary, model, tables = str(Path(sys.argv[1]).resolve()), str(Path(sys.argv[2]).resolve()), int(sys.argv[3])
    counts = {}
    for seed in range(tables):
        writer = check(binary, model, seed)
        counts[writer] = counts.get(writer, 0) + 1
    by = ", ".join(f"{n} by {writer}" for writer, n in sorted(counts.items()))
    print(f"{tables} tables, {by}: every kept value is the input's")


main()
