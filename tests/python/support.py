"""What the tests of the module share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/qwen3"
COMMAND = os.environ["GRISTMILL"]

#: A job of few tokens on one thread.
SMALL = {"model": str(GOLDEN), "device": "cpu", "threads": 1, "temperature": 0, "max_tokens": 4}


def messages(rows):
    """A table of prompts; every seventh is null."""
    text = [None if i % 7 == 6 else f"the {i % 5} wheel of {i}" for i in range(rows)]
    return pa.table({"id": pa.array(range(rows), pa.int64()), "q": text})


def toml(options):
    """A job file of options: JSON's literals are TOML's."""
    return "".join(f"{key} = {inline(value)}\n" for key, value in options.items())


def inline(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


def by_command(folder, table, options):
    """The output of the command line for a table."""
    folder = Path(folder)
    # Not as Parquet, in which pyarrow has no seconds and other names of items.
    with pa.ipc.new_file(folder / "rows.arrow", table.schema) as writer:
        writer.write_table(table)
    files = {"input": "rows.arrow", "output": "answers.parquet", "max_error_rate": 1}
    (folder / "job.toml").write_text(toml({**options, **files}))
    ran = subprocess.run([COMMAND, "run", "job.toml", "--fresh"], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    # The footer's entries of the job itself are of files.
    answers = pq.read_table(folder / "answers.parquet")
    metadata = {key: value for key, value in (answers.schema.metadata or {}).items() if not key.startswith(b"gristmill.")}
    return answers.replace_schema_metadata(metadata or None)


def python(code, **environment):
    """Runs code in another interpreter."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
