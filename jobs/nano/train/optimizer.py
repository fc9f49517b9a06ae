"""Muon for the layers' matrices, AdamW for the rest."""

from collections import defaultdict

import torch

# The quintic iteration of Newton and Schulz that Muon uses, and how often (kellerjordan.github.io/posts/muon).
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5


def orthogonal(update):
    """The matrices of a stack [count, rows, columns], rows <= columns, with all singular values brought near 1."""
    a, b, c = COEFFICIENTS
    update = update / update.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = update @ update.mT
        update = torch.baddbmm(update, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), update, beta=a)
    return update


class Optimizer:
    """Muon in f32 with matrices of one shape as one stack: torch's own works in bf16, which many processors only emulate."""

    def __init__(self, model, rate: float, momentum: float = 0.95, decay: float = 0.05):
        named = dict(model.named_parameters())
        matrices = [weight for name, weight in named.items() if weight.dim() == 2 and "embed" not in name]
        rest = [weight for name, weight in named.items() if weight.dim() != 2 or "embed" in name]
        self.rate, self.momentum, self.decay, self.all = rate, momentum, decay, list(named.values())
        self.stacks = defaultdict(list)
        for matrix in matrices:
            self.stacks[tuple(matrix.shape)].append(matrix)
        self.means = {shape: torch.zeros(len(members), *shape) for shape, members in self.stacks.items()}
        self.adam = torch.optim.AdamW(rest, lr=0.25 * rate, betas=(0.9, 0.98), weight_decay=0.0)

    @torch.no_grad()
    def step(self, share: float):
        """One step at `share` of the peak rate from the gradients, which it clears."""
        torch.nn.utils.clip_grad_norm_(self.all, 1.0)
        self.adam.param_groups[0]["lr"] = 0.25 * self.rate * share
        self.adam.step()
        for shape, members in self.stacks.items():
            gradient, mean = torch.stack([matrix.grad for matrix in members]), self.means[shape]
            mean.lerp_(gradient, 1 - self.momentum)
            ahead = gradient.lerp(mean, self.momentum)
            update = orthogonal(ahead.mT).mT if shape[0] > shape[1] else orthogonal(ahead)
            rate = self.rate * share
            for matrix, direction in zip(members, update):  # steps of the size that AdamW's have (arXiv:2502.16982)
                matrix.mul_(1 - rate * self.decay).add_(direction, alpha=-0.2 * max(shape) ** 0.5 * rate)
        for weight in self.all:
            weight.grad = None
