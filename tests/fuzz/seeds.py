"""Writes what a target begins with into corpus/TARGET, from the tests' own files."""

import json
import shutil
import struct
import sys
from pathlib import Path

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"


def config(corpus):
    for path in GOLDEN.glob("*/config.json"):
        shutil.copy(path, corpus / path.parent.name)


def safetensors(corpus):
    """A header without its data, a small file, and a shard."""
    header = (GOLDEN / "qwen3/model.safetensors").read_bytes()
    header = header[: 8 + struct.unpack("<Q", header[:8])[0]]
    (corpus / "header").write_bytes(header)
    small = b'{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}'
    (corpus / "small").write_bytes(struct.pack("<Q", len(small)) + small + bytes(8))
    shutil.copy(GOLDEN / "llama3-sharded/model-00002-of-00002.safetensors", corpus / "shard")


def template(corpus):
    for path in (GOLDEN / "templates").glob("*.json"):
        (corpus / path.stem).write_text(json.loads(path.read_text())["template"])


def job(corpus):
    for path in (HERE.parent.parent / "examples").glob("*.toml"):
        shutil.copy(path, corpus / path.stem)


def parquet(corpus):
    shutil.copy(HERE / "small.parquet", corpus / "small")


def request(corpus):
    for url, ask in [("chat/completions", {"messages": [{"role": "user", "content": "x"}]}), ("completions", {"prompt": [1]})]:
        body = ask | {"max_tokens": 4, "stop": ["a"], "logit_bias": {"3": 1}, "seed": -1, "logprobs": None, "user": "u"}
        line = {"custom_id": "a", "method": "POST", "url": f"/v1/{url}", "body": body}
        (corpus / url.replace("/", "-")).write_text(json.dumps(line))


if __name__ == "__main__":
    target = sys.argv[1]
    {f.__name__: f for f in (config, safetensors, template, job, parquet, request)}[target](HERE / "corpus" / target)
