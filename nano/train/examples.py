"""Writes the held-out rows with their truths as Parquet: python examples.py ../../examples/messages.parquet."""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import messages
import names
import prompts

COLUMNS = [("id", pa.int64()), ("message", pa.string()), ("true_sentiment", pa.string()), ("true_topic", pa.string()), ("true_issue", pa.string()),
           ("true_request", pa.string()), ("true_order_number", pa.string()), ("true_product", pa.string()), ("true_amount", pa.float64()),
           ("true_summary", pa.string()), ("key_facts", pa.string()), ("features", pa.string())]


def record(index: int) -> dict:
    """Row `index`: the message, its truth, the facts a summary must hold and what makes the row hard."""
    row = messages.write(f"example-{index}", names.HELD)
    return {"id": index + 1, "message": row.text, "true_sentiment": row.sentiment, "true_topic": row.topic, "true_issue": row.issue,
            "true_request": row.request, "true_order_number": row.order_number, "true_product": row.product,
            "true_amount": float(row.amount) if row.amount else None, "true_summary": row.summary(),
            "key_facts": "; ".join(prompts.key_facts(row)), "features": "; ".join(row.features)}


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
