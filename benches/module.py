"""Rows a second of the module beside the command line, by turns: the same rows, model, flags and threads.

    python benches/module.py COMMAND [ROUNDS]

COMMAND is the binary, built as the module is. Loading the model counts for neither: the command line says what its rows took.
The limit: the module has 95 % of the command line's rate.
"""

import re
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
    took = re.search(r"^(\d+) rows? in ((?:\d+(?:m|s|ms) ?)+),", ran.stderr, re.MULTILINE)
    units = {"m": 60, "s": 1, "ms": 0.001}
    seconds = sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)(ms|m|s)", took[2]))
    return int(took[1]) / seconds


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


if __name__ == "__main__":
    main()
