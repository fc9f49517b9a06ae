"""The Llama architecture in plain torch, with the weight names of a Hugging Face folder."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Shape:
    """The sizes of the model, under their names in config.json."""

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 640
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    rms_norm_eps: float = 1e-5
    rope_theta: float = 1000000.0
    max_position_embeddings: int = 2048

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def config(self) -> dict:
        return asdict(self) | {"head_dim": self.head_dim}


@dataclass
class Trace:
    """What training wants to see of the last layer: the states [rows, length, hidden] that it reads, and the log of where its
    even heads look [rows, heads / 2, count, length] at the positions that are asked for."""

    states: torch.Tensor | None = None
    looks: torch.Tensor | None = None


class Norm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


def rotate(x, cos, sin):
    """Rotary position embedding (arXiv:2104.09864) over half-split pairs, as Llama folders store them."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def pick(x, at):
    """The positions `at` [rows, count] of x [rows, length, hidden]."""
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))


class Attention(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, hidden, kv = shape, shape.hidden_size, shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj = nn.Linear(hidden, kv, bias=False)
        self.v_proj = nn.Linear(hidden, kv, bias=False)
        self.o_proj = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x, cos, sin, cache=None, at=None, trace=None):
        """x [rows, length, hidden]; a cache (mask, keys, values) makes x one new position per row. With positions
        `at` [rows, count] only they are asked for: [rows, count, hidden]."""
        rows, length, hidden = x.shape
        heads = lambda y: y.view(rows, y.shape[1], -1, self.shape.head_dim).transpose(1, 2)
        k, v, mask = rotate(heads(self.k_proj(x)), cos, sin), heads(self.v_proj(x)), None
        if at is None:
            q = rotate(heads(self.q_proj(x)), cos, sin)
        else:
            q = rotate(heads(self.q_proj(pick(x, at))), cos[at][:, None], sin[at][:, None])
            mask = (torch.arange(length) <= at[..., None])[:, None]
            if trace is not None:  # one head of each key's two
                scores = (q[:, ::2] @ k.mT) * self.shape.head_dim ** -0.5
                trace.looks = scores.masked_fill(~mask, -1e9).log_softmax(-1)
        if cache is not None:
            mask, at, keys, values = cache
            if length == 1:
                rows_at = torch.arange(rows)
                keys[rows_at, :, at], values[rows_at, :, at] = k[:, :, 0], v[:, :, 0]
                k, v = keys, values
            else:
                keys[:, :, :length], values[:, :, :length], mask = k, v, None
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).reshape(rows, -1, hidden))


class Mlp(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.input_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, x, cos, sin, cache=None, at=None, trace=None):
        attended = self.self_attn(self.input_layernorm(x), cos, sin, cache, at, trace)
        x = (x if at is None else pick(x, at)) + attended
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Tied embeddings; `hidden` gives the normed last hidden states, `logits` their scores over the vocabulary."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        inverse = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim)
        angles = torch.outer(torch.arange(shape.max_position_embeddings, dtype=torch.float64), inverse)
        self.cos, self.sin = angles.cos().float(), angles.sin().float()
        self.start()

    @torch.no_grad()
    def start(self):
        """Initial weights: normal, the layers' outputs scaled down with depth; then the copying circuit."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 if not deep else 0.02 / (2 * self.shape.num_hidden_layers) ** 0.5)
        start_copying(self)

    def hidden(self, ids, positions=None, caches=None):
        """ids [rows, length] at positions 0.. (or, with caches, one id per row at `positions` [rows])."""
        if positions is None:
            cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        else:
            cos, sin = self.cos[positions][:, None, None], self.sin[positions][:, None, None]
        x = self.embed_tokens(ids)
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, None if caches is None else caches[index])
        return self.norm(x)

    def hidden_at(self, ids, chosen, trace=None):
        """The normed last hidden states [count, hidden] of the `chosen` [rows, length] positions of `ids`; the last layer
        is computed at them only, as no other position needs it. A `trace` is filled."""
        x, cos, sin = self.embed_tokens(ids), self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers[:-1]:
            x = layer(x, cos, sin)
        counts = chosen.sum(1)
        at = torch.argsort(~chosen, dim=1, stable=True)[:, : int(counts.max())]
        if trace is not None:
            trace.states = x
        x = self.layers[-1](x, cos, sin, at=at, trace=trace)
        return self.norm(x[torch.arange(at.shape[1]) < counts[:, None]])

    def logits(self, hidden):
        return F.linear(hidden, self.embed_tokens.weight)


@torch.no_grad()
def start_copying(model: Llama, scale: float = 0.2):
    """Lays an induction circuit (arXiv:2209.11895) into the initial weights of the first two layers.

    Facts are copied from message to answer token by token, and a small model trained for minutes would spend
    most of them on finding out how. Layer 0 writes the two tokens before each position into the upper half of
    the hidden state; layer 1 looks for the place whose two tokens before are the last two tokens, and moves
    the token found there towards the output. The first head of the last layer moves what it looks at in the same way.
    Training is free to change all of it.

    `scale` is that of the embeddings and of what the circuit writes beside them. Muon's steps have one size whatever a matrix
    holds: at a scale of 0.06 the first ones overwrite much more of both than at this one.

    Hidden dimensions: 0 is the same for all tokens, the lower half holds the token, the upper half the two
    tokens before it.
    """
    shape = model.shape
    hidden, dim = shape.hidden_size, shape.head_dim
    half, pairs = hidden // 2, dim // 2
    assert half == 2 * dim and shape.num_attention_heads // shape.num_key_value_heads >= 2
    theta = shape.rope_theta ** (-torch.arange(pairs) / pairs)
    fast, slow = torch.arange(8), torch.arange(pairs - 16 - 2, pairs - 2)  # rotary pairs that tell positions, and that hardly turn

    tokens = model.embed_tokens.weight
    tokens[:, 0], tokens[:, half:] = 6 * scale, 0.0
    tokens[:, 1:half] = torch.randn(shape.vocab_size, half - 1) * scale
    project = torch.zeros(dim, hidden)
    project[:, 1:half] = torch.randn(dim, half - 1) / (half - 1) ** 0.5

    first = model.layers[0].self_attn
    first.k_proj.weight[:dim] = 0.0
    first.k_proj.weight[fast, 0] = 1.0
    for head, offset in enumerate((1, 2)):
        rows = head * dim
        first.q_proj.weight[rows: rows + dim] = 0.0
        first.q_proj.weight[rows + fast, 0] = torch.cos(offset * theta[fast])
        first.q_proj.weight[rows + pairs + fast, 0] = -torch.sin(offset * theta[fast])
        first.o_proj.weight[:, rows: rows + dim] = 0.0
        first.o_proj.weight[half + rows + torch.arange(dim), rows + torch.arange(dim)] = scale
    first.v_proj.weight[:dim] = 0.8 * project

    second = model.layers[1].self_attn
    look = [nn.init.orthogonal_(torch.empty(16, dim)) * 2 for _ in range(2)]
    second.k_proj.weight[:dim], second.q_proj.weight[:dim] = 0.0, 0.0
    second.k_proj.weight[slow, half: half + dim] = look[0]
    second.k_proj.weight[pairs + slow, half + dim:] = look[1]
    second.q_proj.weight[slow] = look[0] @ project
    second.q_proj.weight[pairs + slow, half: half + dim] = look[1]
    move = torch.zeros(dim, hidden)
    move[:, 1:half] = nn.init.orthogonal_(torch.empty(dim, half - 1))
    second.v_proj.weight[:dim] = move
    second.o_proj.weight[:, :dim] = 4 * scale * move.T
    last = model.layers[-1].self_attn
    last.v_proj.weight[:dim] = move
    last.o_proj.weight[:, :dim] = 4 * scale * move.T
    model.norm.weight.fill_(0.12 / scale)


@torch.no_grad()
def generate(model: Llama, prompts: list[list[int]], end: int, limit: int) -> list[list[int]]:
    """Greedy answers to `prompts` (token ids) as one batch, each until `end` or `limit` tokens."""
    rows, shape = len(prompts), model.shape
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    width = int(lengths.max()) + limit
    ids = torch.zeros(rows, int(lengths.max()), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    empty = lambda: torch.zeros(rows, shape.num_key_value_heads, width, shape.head_dim)
    stores = [(empty(), empty()) for _ in model.layers]
    hidden = model.hidden(ids, caches=[(None, None, *store) for store in stores])
    last = model.logits(hidden[torch.arange(rows), lengths - 1]).argmax(-1)
    answers, done, at = [[] for _ in prompts], torch.zeros(rows, dtype=torch.bool), lengths.clone()
    for _ in range(limit):
        for row in range(rows):
            if not done[row]:
                answers[row].append(int(last[row])) if int(last[row]) != end else None
        done |= last == end
        if bool(done.all()):
            break
        mask = (torch.arange(width)[None] <= at[:, None])[:, None, None]
        hidden = model.hidden(last[:, None], positions=at, caches=[(mask, at, *store) for store in stores])
        last, at = model.logits(hidden[:, 0]).argmax(-1), at + 1
    return answers
