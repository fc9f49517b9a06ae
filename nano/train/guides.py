"""Losses of training only: they say where in the message the answer stands.

A model that sees answers alone has to find out by chance which of a hundred tokens an answer was read from. The generator
knows it, so there are three losses: the first head of the last layer looks at the token that is copied next, the third at the last
token of the sentence that states the issue or the wish, and a linear map of the states that the last layer reads names what
each sentence states. None of it is in the model's folder.
"""

import torch
import torch.nn.functional as F
from torch import nn

import messages

# Which of the traced heads is to look at what.
COPIED, STATED = 0, 1
WEIGHT = 0.3


class Guides(nn.Module):
    def __init__(self, hidden_size: int):
        super().__init__()
        self.kinds = nn.Linear(hidden_size, len(messages.KINDS), bias=False)

    def losses(self, trace, chosen, looks, sentences):
        """The three losses, each weighted. `chosen` [rows, length] are the positions before answer tokens, `looks` [count, 4]
        the (row, head, target, source) of tokens that are read off a place, `sentences` [count, 3] the (row, last token, kind)."""
        row, at, kind = sentences.T
        states = trace.states[row, at]
        naming = F.cross_entropy(self.kinds(F.rms_norm(states.float(), states.shape[-1:])), kind)
        return [WEIGHT * loss for loss in (*looking(trace.looks.float(), chosen, looks), naming)]


def looking(log_shares, chosen, looks):
    """For both heads the mean loss, over the tokens that have a source, of the attention [rows, heads, count, length] that their
    sources get together."""
    rank = chosen.cumsum(1) - 1
    row, head, target, source = looks.T
    wanted = torch.zeros(log_shares.shape, dtype=torch.bool)
    wanted[row, head, rank[row, target - 1], source] = True
    for head in (COPIED, STATED):
        has = wanted[:, head].any(-1)
        missed = -log_shares[:, head][has].masked_fill(~wanted[:, head][has], -1e9).logsumexp(-1)
        yield missed.mean() if len(missed) else torch.zeros(())
