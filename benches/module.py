"""Rows a second of the module beside the command line, by turns: the same rows, model, flags and threads.

    python benches/module.py COMMAND [ROUNDS]

COMMAND is the binary, built as the module is. Loading the model counts for neither: the command line says how fast its tokens came, without reading and writing tables.
The limit: the module has 95 % of the command line's rate.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gristmill
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
JOB = {"model": "nano", "device": "cpu", "temperature": 0, "max_tokens": 12}


def by_command(command, rows, folder):
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in JOB.items()]
    output = f"{folder}/answers.parquet"
    given = [command, "run", "-i", rows, "-o", output, "--prompt-column", "message", "--fresh", *flags]
    ran = subprocess.run(given, capture_output=True, text=True, check=True)
    # The time is rounded down to seconds, the rate of tokens is not.
    rows, rate = re.search(r"^(\d+) rows? in .*?, ([\d.]+) tokens/s", ran.stderr, re.MULTILINE).groups()
    tokens = json.loads(Path(f"{output}.gristmill/receipt.json").read_text())["generated_tokens"]
    return int(rows) * float(rate) / tokens


def by_module(engine, table):
    begun = time.perf_counter()
    answers = engine.run(table, prompt_column="message")
    return answers.num_rows / (time.perf_counter() - begun)


def main():
    command, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as folder:
        rows = f"{folder}/rows.parquet"
        pq.write_table(pq.read_table(ROOT / "examples/messages.parquet"), rows)
        table, engine = pq.read_table(rows), gristmill.Engine(**JOB)
        rates = []
        for _ in range(rounds):
            rates.append((by_command(command, rows, folder), by_module(engine, table)))
            # What is kept of earlier prompts would be found by the next round alone.
            engine.close()
            engine = gristmill.Engine(**JOB)
    print("| round | command line, rows/s | module, rows/s | share |\n|---:|---:|---:|---:|")
    for at, (one, other) in enumerate(rates):
        print(f"| {at + 1} | {one:.1f} | {other:.1f} | {other / one:.3f} |")
    print(f"median of the shares (limit: 0.95): {statistics.median(other / one for one, other in rates):.3f}")


if __name__ == "__main__":
    main()
