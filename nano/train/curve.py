"""Draws the training log as a picture: python curve.py RUN/log.jsonl ../curve.svg."""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    records = [json.loads(line) for line in args.log.read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    axes.plot([record["tokens"] / 1e6 for record in records], [record["loss"] for record in records], color="tab:blue")
    axes.set(xlabel="tokens read (millions)", ylabel="loss per answer token (nats)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    matplotlib.rcParams["svg.hashsalt"] = "nano"
    figure.savefig(args.picture, metadata={"Date": None} if args.picture.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
