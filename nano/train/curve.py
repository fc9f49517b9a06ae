"""Draws the training log as a picture: python curve.py RUN/log.jsonl ../curve.svg.

Of the second stage each lesson has a line, and the share of right held-out answers points, with an axis of their own."""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import lessons


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    records = [json.loads(line) for line in args.log.read_text().splitlines()]
    steps, held = [record for record in records if "step" in record], [record for record in records if "held" in record]
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for loss in [loss for loss in ("loss", *lessons.LESSONS) if loss in steps[-1] and loss != "sentences"]:
        having = [record for record in steps if loss in record]
        axes.plot([record["tokens"] / 1e6 for record in having], [record[loss] for record in having], label=loss)
    axes.set(xlabel="tokens read (millions)", ylabel="loss per answer token (nats)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    if held:
        shares = axes.twinx()
        for kind in ("threads", "merges"):
            shares.plot([record["tokens"] / 1e6 for record in held], [record["held"][kind] for record in held], "o:", alpha=0.6, label=kind)
        shares.set(ylabel="held-out answers right, dotted", ylim=(0, 1))
        axes.legend(loc="lower left", fontsize="small", ncols=2)
    matplotlib.rcParams["svg.hashsalt"] = "nano"
    figure.savefig(args.picture, metadata={"Date": None} if args.picture.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
