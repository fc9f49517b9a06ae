"""Makes the journals of an earlier format again, with a build that wrote this format.

    python tests/journals/make.py FORMAT BINARY [NAME ...]

BINARY is gristmill as of commit 288aa38 for format 1, cefa941 for format 2. README.md says what there is.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

import pyarrow
import pyarrow.parquet

HERE = pathlib.Path(__file__).parent
PLACES = ["mill", "river", "old bridge", "grain store", "well", "orchard", "smithy", "field of rye"]
TEMPLATE = (
    "{{ bos_token }}It is {{ strftime_now('%d %B %Y') }}{% if mood %}, {{ mood }}{% endif %}."
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)

# What is slow enough to be stopped half way: one row at a time, on one thread.
SLOW = ["--max-num-seqs", "1", "--threads", "1"]

# Everything that a command line can say about answers, spread over a few jobs.
FORMAT_1 = {
    "plain": {
        "flags": ["--max-tokens", "48"],
        "stop": "worker, then term",
    },
    "prompts": {
        "flags": [
            "--prompt", "Where is the {{ place }}? {{ n }}", "--system-prompt", "You are a miller.\nBe brief.",
            "--chat-template", TEMPLATE, "--chat-template-kwargs", '{"mood": "mild", "k": [1, 2.5, null, true, {"a": "b\\n"}]}',
            "--temperature", "0", "--max-tokens", "60", "--keep", "n", "--return", "token_logprobs,generated_tokens",
        ],
        "stop": "kill",
    },
    "sampling": {
        "flags": [
            "--prompt-column", "place", "--raw", "--n", "2", "--temperature", "0.7", "--top-p", "0.95", "--top-k", "-1",
            "--min-p", "0.01", "--presence-penalty", "0.25", "--frequency-penalty", "-0.1", "--repetition-penalty", "1.1",
            "--seed", "7", "--stop", "qq", "--stop", 'a "b"\n', "--stop-token-ids", "11,5", "--ignore-eos",
            "--max-tokens", "20", "--min-tokens", "3", "--logprobs", "1", "--prompt-logprobs", "0",
            "--skip-special-tokens=false", "--include-stop-str-in-output", "--logit-bias", "5:-1.5,6:2",
            "--bad-words", "mill", "--generation-config", "none", "--max-model-len", "128",
            "--return", "generated_tokens,token_logprobs,logprobs,prompt_logprobs",
        ],
        "stop": "term",
    },
    "types": {
        "flags": [
            "--prompt", "{{ place }} {{ n }}", "--temperature", "0", "--max-tokens", "48", "--dtype", "float16",
            "--kv-cache-dtype", "float32", "--float32-matmul-precision", "medium", "--allowed-token-ids", "9,8,70,71,72,30",
        ],
        "stop": "term",
    },
    "wgpu": {
        "flags": [
            "--prompt", "{{ place }} {{ n }}", "--temperature", "0", "--max-tokens", "24", "--dtype", "bfloat16",
            "--kv-cache-dtype", "float32",
        ],
        "stop": "kill",
    },
}

# A job of token ids, whose identity has no version of prompts.
FORMAT_2 = {
    "tokens": {
        "flags": [
            "--prompt-tokens-column", "ids", "--n", "2", "--temperature", "0.7", "--seed", "7", "--max-tokens", "20",
            "--max-model-len", "64", "--return", "generated_tokens,token_logprobs",
        ],
        "stop": "worker, then term",
    },
}
FORMATS = {"1": FORMAT_1, "2": FORMAT_2}
ROWS = 24
STATE = "out.parquet.gristmill"

# The step at which the device hangs, for each start of the worker.
HANGS = {"kill": [400], "term": [300], "worker, then term": [200, 300]}


def table(name):
    place = [None if i == 5 else PLACES[i % len(PLACES)] for i in range(ROWS)]
    prompt = [None if p is None else f"the {p}" + " and the river" * (i // len(PLACES)) for i, p in enumerate(place)]
    columns = {"n": pyarrow.array(range(ROWS), pyarrow.int32())}
    if name == "tokens":
        # The eighth is too long.
        columns["ids"] = [[9 + i] * (70 if i == 7 else 1 + i) for i in range(ROWS)]
        return pyarrow.table(columns)
    columns["prompt" if name == "plain" else "place"] = prompt if name == "plain" else place
    return pyarrow.table(columns)


def finished(work):
    try:
        with contextlib.closing(sqlite3.connect(f"file:{work}/{STATE}/journal.sqlite?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM answers").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def make(number, binary, name):
    job = FORMATS[number][name]
    folder = HERE / f"format-{number}" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    device = "wgpu" if name == "wgpu" else "cpu"
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        pyarrow.parquet.write_table(table(name), work / "in.parquet", compression="none", use_dictionary=False)
        model = work / "model"
        shutil.copytree(HERE.parent / "golden" / "qwen3", model)
        command = [binary, "run", "--device", device, "--model", "model", "-i", "in.parquet", *job["flags"]]
        whole = subprocess.run([*command, "-o", "expected.parquet"], cwd=work, capture_output=True, text=True)
        assert whole.returncode == 0, whole.stderr
        answered = stop_half_way([*command, *SLOW, "-o", "out.parquet"], work, job["stop"])
        for file in ["in.parquet", "expected.parquet"]:
            shutil.copy(work / file, folder / file)
        (folder / "job").mkdir()
        for file in ["journal.sqlite", "journal.sqlite-wal", "in-flight"]:
            if (work / STATE / file).exists():
                shutil.copy(work / STATE / file, folder / "job" / file)
        said = {"model": "qwen3", "device": device, "flags": job["flags"], "rows": ROWS, "answered": answered}
        (folder / "job.json").write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        print(f"{name}: {answered} of {ROWS} rows answered, {size} bytes")


def stop_half_way(command, work, how):
    """The device hangs in the middle, and there the job is stopped; returns how many rows were committed."""
    faults = ",".join(f"{start}:hang@{step}" for start, step in enumerate(HANGS[how], 1))
    process = subprocess.Popen(
        command, cwd=work, stderr=subprocess.DEVNULL, start_new_session=True, env={**os.environ, "GRISTMILL_FAULTS": faults}
    )
    count = wait_until_it_hangs(work)
    if how == "worker, then term":
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        while finished(work) == count:
            time.sleep(0.05)
        count = wait_until_it_hangs(work)
    if how == "kill":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGTERM)
    assert process.wait() == (-signal.SIGKILL if how == "kill" else 143)
    assert 0 < count < ROWS, count
    return count


def wait_until_it_hangs(work):
    counts = []
    while len(counts) < 5 or len(set(counts[-5:])) > 1 or counts[-1] == 0:
        counts.append(finished(work))
        time.sleep(0.5)
    return counts[-1]


if __name__ == "__main__":
    number, binary = sys.argv[1], str(pathlib.Path(sys.argv[2]).resolve())
    for name in sys.argv[3:] or FORMATS[number]:
        make(number, binary, name)
