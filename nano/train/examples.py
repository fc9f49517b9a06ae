"""Writes held-out rows with their truths as Parquet: python examples.py messages ../../examples/messages.parquet, or threads."""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import messages
import names
import prompts
import threads

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


THREAD_COLUMNS = [("id", pa.int64()), ("thread", pa.string()), ("num_messages", pa.int64()), ("true_sentiment", pa.string()),
                  ("true_topic", pa.string()), ("true_summary", pa.string()), ("key_facts", pa.string())]


def thread_record(index: int) -> dict:
    """Row `index` of the threads, with the truth and the facts that its summary must hold."""
    row = threads.write(f"example-{index}", names.HELD, wordiness=threads.OF_EXAMPLES)
    return {"id": index + 1, "thread": row.text, "num_messages": len(row.texts), "true_sentiment": row.truth.sentiment,
            "true_topic": row.truth.topic, "true_summary": row.truth.summary(), "key_facts": "; ".join(prompts.key_facts(row.truth))}


KINDS = {"messages": (record, COLUMNS, 2000), "threads": (thread_record, THREAD_COLUMNS, 400)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int)
    args = parser.parse_args()
    make, columns, rows = KINDS[args.kind]
    table = pa.Table.from_pylist([make(index) for index in range(args.rows or rows)], schema=pa.schema(columns))
    pq.write_table(table, args.path, compression="zstd", compression_level=19)
    print(f"{args.path}: {table.num_rows:,} rows, {args.path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
