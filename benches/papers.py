#!/usr/bin/env python3
"""Summaries of 250 scientific papers, longer than the model's context, beside their references. By hand:

    python3 -m venv venv
    venv/bin/pip install --no-deps aclsum && venv/bin/pip install rouge-score pyarrow
    venv/bin/python benches/papers.py --gristmill target/release/gristmill --model path/to/SmolLM2-135M-Instruct --papers 250

It checks that every byte of all 250 papers lies in a chunk, and then answers so many papers in four ways: the first chunk
alone (what cutting off at the context comes to), merged level by level, merged with sources, and refined. It prints ROUGE-1,
ROUGE-2 and ROUGE-L of each against the papers' summaries (challenge, approach and outcome, joined), and what each read.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rouge_score.rouge_scorer import RougeScorer

MAP = "Summarise this part of a scientific paper in three sentences.\n\n{{ chunk }}"
REDUCE = (
    "These notes are of the parts of one scientific paper, in order. Summarise the paper in three sentences: its challenge, "
    "its approach and its outcome.\n\n{% for note in notes %}- {{ note }}\n{% endfor %}"
)
SOURCES = "{% if sources %}\nSentences of the paper:\n{% for source in sources %}- {{ source }}\n{% endfor %}{% endif %}"
REFINE = (
    "This is a summary of a scientific paper so far:\n{{ answer }}\n\nThe paper goes on:\n{{ chunk }}\n\nSummarise the paper "
    "in three sentences: its challenge, its approach and its outcome."
)
METHODS = {
    "map-reduce": {"map-prompt": MAP, "reduce-prompt": REDUCE},
    "sources": {"map-prompt": MAP, "reduce-prompt": REDUCE + SOURCES, "sources": True},
    "refine": {"map-prompt": MAP, "refine-prompt": REFINE, "method": "refine"},
}


def papers() -> list[dict]:
    """The papers in the order of their names, with their summaries."""
    # The package itself imports more than is installed.
    package = Path(importlib.util.find_spec("aclsum").origin).parent / "dataset"
    references = {}
    for split in ("train", "val", "test"):
        for line in (package / f"{split}.jsonl").open(encoding="utf-8"):
            row = json.loads(line)
            references[row["id"]] = " ".join(row["summary"][key] for key in ("challenge", "approach", "outcome"))
    found = []
    for path in sorted((package / "paper_jsons").glob("*.json")):
        paper = json.loads(path.read_text(encoding="utf-8"))
        parts = [paper["abstract"] or ""] + [part["text"] for part in paper["pdf_parse"]["body_text"]]
        text = "\n\n".join(part for part in parts if part)
        found.append({"id": path.stem, "text": text, "reference": references[path.stem]})
    return found


class Jobs:
    def __init__(self, args):
        self.args = args
        self.out = Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)

    def flags(self, table: str, output: str, more: list[str]) -> list[str]:
        args = self.args
        flags = ["--model", args.model, "-i", str(self.out / table), "-o", str(self.out / output), "--device", args.device]
        flags += ["--max-model-len", "2048", "--max-tokens", "160", "--temperature", "0", "--threads", str(args.threads)]
        return flags + args.flags.split() + more

    def chunks(self, table: str, row: int, size: int) -> list[tuple[int, int]]:
        """The bytes of a row's chunks, as a run cuts it."""
        documents = json.dumps({"column": "text", **METHODS["map-reduce"]})
        command = [self.args.gristmill, "show", "--row", str(row), "--json"]
        command += self.flags(table, "none.parquet", ["--documents", documents])
        shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        all_chunks = [shown, *shown.get("chunks", [])]
        return [tuple(chunk.get("bytes", (0, size))) for chunk in all_chunks]

    def run(self, name: str, table: str, more: list[str]) -> tuple[pa.Table, float]:
        begun = time.monotonic()
        command = [self.args.gristmill, "run", "--fresh", *self.flags(table, f"{name}.parquet", more)]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            sys.exit(f"{name}: {ran.stderr}")
        return pq.read_table(self.out / f"{name}.parquet"), time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gristmill", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--papers", type=int, default=250, help="papers to answer, from the first")
    parser.add_argument("--check", type=int, default=250, help="papers to check the bytes of, from the first")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--flags", default="", help="more flags of gristmill")
    parser.add_argument("--out", default="out/papers")
    jobs = Jobs(parser.parse_args())
    args = jobs.args

    rows = papers()
    pq.write_table(pa.Table.from_pylist(rows), jobs.out / "papers.parquet")
    counts, firsts = [], []
    for at, row in enumerate(rows[: max(args.check, args.papers)]):
        text = row["text"].encode()
        chunks = jobs.chunks("papers.parquet", at, len(text))
        ends = [0] + [end for _, end in chunks]
        assert [start for start, _ in chunks] == ends[:-1] and ends[-1] == len(text), (row["id"], chunks)
        for start, end in chunks:
            text[start:end].decode()
        counts.append(len(chunks))
        firsts.append(text[: chunks[0][1]].decode())
    size = sum(len(row["text"].encode()) for row in rows[: len(counts)])
    print(f"{len(counts)} papers of {size} bytes: each byte in one of {sum(counts)} chunks, at most {max(counts)} of a paper")

    some = rows[: args.papers]
    if not some:
        return
    pq.write_table(pa.Table.from_pylist(some), jobs.out / "some.parquet")
    cut = [{"text": first} for first in firsts[: args.papers]]
    pq.write_table(pa.Table.from_pylist(cut), jobs.out / "cut.parquet")
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    prompt = MAP.replace("chunk", "text")
    print(f"\n{len(some)} papers, {sum(counts[: len(some)])} chunks\n")
    print("| | ROUGE-1 | ROUGE-2 | ROUGE-L | tokens read | tokens generated | errors | seconds |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)

    def report(name: str, table: pa.Table, seconds: float):
        texts = table["generated_text"].to_pylist()
        scores = [scorer.score(row["reference"], text or "") for row, text in zip(some, texts, strict=True)]
        means = [100 * sum(score[kind].fmeasure for score in scores) / len(scores) for kind in ("rouge1", "rouge2", "rougeL")]
        sums = [sum(table[key].to_pylist()) for key in ("num_input_tokens", "num_generated_tokens")]
        errors = sum(error is not None for error in table["error"].to_pylist())
        figures = " | ".join([*(f"{mean:.1f}" for mean in means), *map(str, sums), str(errors), f"{seconds:.0f}"])
        print(f"| {name} | {figures} |", flush=True)

    report("cut off", *jobs.run("cut-off", "cut.parquet", ["--prompt", prompt]))
    for name, method in METHODS.items():
        documents = json.dumps({"column": "text", **method})
        report(name, *jobs.run(name, "some.parquet", ["--documents", documents]))


if __name__ == "__main__":
    main()
