"""How well a model does on held-out chats while it trains: the share whose greedy answer is right token for token.

That can be told from one pass over prompt and right answer: greedy decoding gives the answer exactly if each of its tokens is the
likeliest after those before it. The rows are other ones than those of `examples`.
"""

import torch

import lessons
import names
import sequences

ROWS = {"first": (lessons.first_turns, 150), "behind": (lessons.behind_turns, 120), "threads": (lessons.thread_turns, 80),
        "merges": (lessons.merge_turns, 80), "refine": (lessons.refine_turns, 30)}


class HeldOut:
    """The held-out chats of each lesson, as sequences with their tasks."""

    def __init__(self, tokenizer):
        encoder, self.rows = sequences.Encoder(tokenizer, 2048), []
        for lesson, (turns, count) in ROWS.items():
            held = lambda index: turns(index, names.HELD)
            for index in range(count):
                for sequence in encoder.sequences(held, 9 * 10**8 + index, 1):
                    task = held(9 * 10**8 + index)[0][0].task
                    self.rows.append((f"{lesson} {task}" if lesson in ("first", "behind") else lesson, sequence))
        self.rows.sort(key=lambda row: len(row[1].ids))

    @torch.no_grad()
    def shares(self, model, tokens: int = 8192) -> dict[str, float]:
        """The share of right answers of each kind of chat."""
        right, group = {}, []
        for row in [*self.rows, None]:
            if row is None or group and (len(group) + 1) * len(row[1].ids) > tokens:
                self.score(model, group, right)
                group = []
            group.append(row)
        return {kind: sum(found) / len(found) for kind, found in sorted(right.items())}

    def score(self, model, group, right: dict[str, list[bool]]):
        """Adds whether each row of a group is right to its kind's list."""
        ids, weights, _, _ = sequences.pad([sequence for _, sequence in group])
        chosen = weights[:, 1:] > 0.0
        hits = model.logits(model.hidden_at(ids[:, :-1], chosen)).argmax(-1) == ids[:, 1:][chosen]
        for (kind, _), found in zip(group, hits.split(chosen.sum(1).tolist())):
            right.setdefault(kind, []).append(bool(found.all()))
