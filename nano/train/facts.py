"""How many of the truth's key facts the summaries of threads hold, by length: python facts.py ../../out/thread-summaries.parquet."""

import argparse
from pathlib import Path

import pyarrow.parquet as pq

import prompts

LENGTHS = [(3, 10), (11, 20), (21, 30), (31, 40), (41, 50), (51, 60)]


def held(row: dict) -> list[bool]:
    """For each key fact of a row whether its summary holds it."""
    return [prompts.holds(row["generated_text"] or "", fact) for fact in row["key_facts"].split("; ")]


def line(what: str, rows: list[dict]) -> str:
    """A line of the table over some rows."""
    facts = [held(row) for row in rows]
    if not rows:
        return f"| {what} | 0 | | | |"
    share = sum(map(sum, facts)) / sum(map(len, facts))
    exact = sum(row["generated_text"] == row["true_summary"] for row in rows) / len(rows)
    return f"| {what} | {len(rows)} | {share:.1%} | {sum(map(all, facts)) / len(rows):.1%} | {exact:.1%} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--failures", type=int, default=0, help="print so many summaries that are not the truth")
    args = parser.parse_args()
    rows = pq.read_table(args.output).to_pylist()
    print("| threads of | rows | facts held | all facts held | the truth, word by word |\n|---|---:|---:|---:|---:|")
    for low, high in LENGTHS:
        print(line(f"{low} to {high} messages", [row for row in rows if low <= row["num_messages"] <= high]))
    print(line("one prompt", [row for row in rows if row["num_levels"] == 0]))
    for what, low, high in (("2 chunks", 2, 2), ("3 to 4 chunks", 3, 4), ("5 chunks and more", 5, 99)):
        print(line(what, [row for row in rows if row["num_levels"] and low <= row["num_chunks"] <= high]))
    print(line("all", rows))
    for row in [row for row in rows if row["generated_text"] != row["true_summary"]][: args.failures]:
        print(f"--- {row['id']}: {row['num_messages']} messages, {row['num_chunks']} chunks\n  right: {row['true_summary']}\n  given: {row['generated_text']}")


if __name__ == "__main__":
    main()
