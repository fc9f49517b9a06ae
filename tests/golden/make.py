"""Makes everything in this folder: tiny models with their log-probabilities, a tokenizer, chat templates.

    python -m venv .venv && .venv/bin/pip install -r tests/golden/requirements.txt
    .venv/bin/python tests/golden/make.py            # overwrites the committed files
    .venv/bin/python tests/golden/make.py --check    # makes them in a temporary folder and compares

Weights, configs, token ids and texts are byte for byte the same on every run. The log-probabilities do
so on one machine; another CPU may round their last bits differently, so --check allows 1e-5 there.
"""

import argparse
import filecmp
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here needs the network
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from safetensors.numpy import load_file

import chat
import models
import rope
import styles
import templates

HERE = Path(__file__).resolve().parent
EXPECTED = "expected.safetensors"


def make(out: Path) -> None:
    """Writes every golden file under `out`."""
    models.write(out)
    rope.write(out)
    chat.write(out)
    styles.write(out)
    templates.write(out)


def differences(made: Path, kept: Path) -> list[str]:
    """The files that `made` and `kept` do not share, and how far apart they are."""
    found = []
    for path in sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file()):
        old, new = kept / path, made / path
        if not old.is_file():
            found.append(f"{path}: missing")
        elif path.name == EXPECTED:
            a, b = load_file(new), load_file(old)
            if a.keys() != b.keys() or any(
                a[k].shape != b[k].shape or abs(a[k] - b[k]).max() > 1e-5 for k in a
            ):
                found.append(f"{path}: other values")
        elif not filecmp.cmp(old, new, shallow=False):
            found.append(f"{path}: other bytes")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed files, write nothing"
    )
    if not parser.parse_args().check:
        make(HERE)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        found = differences(Path(folder), HERE)
    print("\n".join(found) or "the golden files are what make.py makes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
