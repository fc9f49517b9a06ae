"""Muon for the layers' matrices, AdamW for the rest."""

from collections import defaultdict

import torch
import torch.distributed as dist

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


# AdamW's rates: of the embeddings and norms as a share of Muon's, of the guides as it is.
EMBEDDINGS, GUIDES = 0.8, 0.01


class Optimizer:
    """Muon in f32 with matrices of one shape as one stack: torch's own works in bf16, which many processors only emulate.

    The processes of the group have the same weights and step alike: gradients are averaged, and each process works out the
    directions of its share of the matrices for all."""

    def __init__(self, model, guides, rate: float, momentum: float = 0.95, decay: float = 0.05):
        named = dict(model.named_parameters())
        matrices = [weight for name, weight in named.items() if weight.dim() == 2 and "embed" not in name]
        rest = [weight for name, weight in named.items() if weight.dim() != 2 or "embed" in name]
        self.rate, self.momentum, self.decay, self.all = rate, momentum, decay, [*named.values(), *guides.parameters()]
        self.stacks = defaultdict(list)
        for matrix in matrices:
            self.stacks[tuple(matrix.shape)].append(matrix)
        self.means = {shape: torch.zeros(len(members), *shape) for shape, members in self.stacks.items()}
        self.adam = torch.optim.AdamW([{"params": rest}, {"params": list(guides.parameters())}], betas=(0.9, 0.98), weight_decay=0.0)

    @torch.no_grad()
    def step(self, share: float):
        """One step at `share` of the peak rate from the gradients, which it clears."""
        self.average_gradients()
        self.adam.param_groups[0]["lr"] = EMBEDDINGS * self.rate * share
        self.adam.param_groups[1]["lr"] = GUIDES * min(1.0, 3 * share)
        self.adam.step()
        rate = self.rate * share
        for (shape, members), directions in zip(self.stacks.items(), self.directions()):
            for matrix, direction in zip(members, directions):  # steps of the size that AdamW's have (arXiv:2502.16982)
                matrix.mul_(1 - rate * self.decay).add_(direction, alpha=-0.2 * max(shape) ** 0.5 * rate)
        for weight in self.all:
            weight.grad = None

    def average_gradients(self):
        """Gives all processes the mean of their gradients, of a norm of at most 1."""
        flat = torch.cat([weight.grad.view(-1) for weight in self.all])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        flat *= min(1.0, 1.0 / (float(flat.norm()) + 1e-6))
        for weight, gradient in zip(self.all, flat.split([weight.numel() for weight in self.all])):
            weight.grad = gradient.view_as(weight)

    def directions(self):
        """The directions to go, stack by stack."""
        rank, world = dist.get_rank(), dist.get_world_size()
        flat = torch.zeros(sum(mean.numel() for mean in self.means.values()))
        found = [part.view_as(mean) for mean, part in zip(self.means.values(), flat.split([mean.numel() for mean in self.means.values()]))]
        for (shape, members), directions in zip(self.stacks.items(), found):
            gradient, mean = torch.stack([matrix.grad for matrix in members]), self.means[shape]
            mean.lerp_(gradient, 1 - self.momentum)
            mine = slice(rank * len(members) // world, (rank + 1) * len(members) // world)
            ahead = gradient[mine].lerp(mean[mine], self.momentum)
            directions[mine] = orthogonal(ahead.mT).mT if shape[0] > shape[1] else orthogonal(ahead)
        dist.all_reduce(flat)  # each matrix's direction and zeros
        return found
