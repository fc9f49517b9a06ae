"""Writes the held-out rows with their truths as Parquet: python examples.py ../../examples/messages.parquet."""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import messages
import names
import prompts

COLUMNS = [("id", pa.int64()), ("message", pa.string()), ("sentiment", pa.string()), ("topic", pa.string()), ("issue", pa.string()),
           ("request", pa.string()), ("order_number", pa.string()), ("product", pa.string()), ("amount", pa.float64()),
           ("summary", pa.string()), ("key_facts", pa.string()), ("features", pa.string())]


def record(index: int) -> dict:
    """Row `index`: the message, its truth, the facts a summary must hold and what makes the row hard."""
    row = messages.write(f"example-{index}", names.HELD)
    return {"id": index + 1, "message": row.text, "sentiment": row.sentiment, "topic": row.topic, "issue": row.issue, "request": row.request,
            "order_number": row.order_number, "product": row.product, "amount": float(row.amount) if row.amount else None,
            "summary": row.summary(), "key_facts": "; ".join(prompts.key_facts(row)), "features": "; ".join(row.features)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    args = parser.parse_args()
    table = pa.Table.from_pylist([record(index) for index in range(args.rows)], schema=pa.schema(COLUMNS))
    pq.write_table(table, args.path, compression="zstd", compression_level=19)
    print(f"{args.path}: {table.num_rows:,} rows, {args.path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
