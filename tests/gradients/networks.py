"""Networks of many sorts, with losses per task, to compare the engine with plain autograd on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Case:
    """Shared parameters, losses [T], and (where there is one) the shared representation."""

    def __init__(self, trunk: nn.Module, inputs: Tensor, width: int, tasks: int, *, block: bool):
        self.trunk, self.inputs, self.block = trunk, inputs, block
        dtype = next(trunk.parameters()).dtype
        if block:
            self.heads = nn.Linear(width, 2 * tasks).to(dtype)
        else:
            self.heads = nn.ModuleList(nn.Linear(width, 2) for _ in range(tasks)).to(dtype)
        self.tasks = tasks

    def losses(self) -> tuple[Tensor, Tensor]:
        features = self.trunk(self.inputs)
        if self.block:
            outputs = self.heads(features).unflatten(-1, (self.tasks, 2))
            return (outputs - 1).square().mean((0, 2)), features
        values = [(head(features) - 1).square().mean() for head in self.heads]
        return torch.stack(values), features

    @property
    def shared(self) -> list[Tensor]:
        return list(self.trunk.parameters())


class Recurrent(nn.Module):
    """One linear layer used at every step: its gradient adds up over its uses."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into, self.over = nn.Linear(3, width), nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        state = torch.zeros(len(inputs), self.over.out_features, dtype=inputs.dtype)
        for step in inputs.unbind(1):
            state = torch.tanh(self.into(step) + self.over(state))
        return state


class Tokens(nn.Module):
    """Embedding with a padding code, a layer norm and three-dimensional linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(50, width, padding_idx=3)
        self.norm, self.mix = nn.LayerNorm(width), nn.Linear(width, width, bias=False)

    def forward(self, codes: Tensor) -> Tensor:
        return torch.relu(self.mix(self.norm(self.table(codes)))).mean(1)


class Residual(nn.Module):
    """Convolutions with stride, dilation, groups, batch norm and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 8, 3, padding=2, dilation=2, bias=False)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.stem(images)))
        hidden = hidden + self.grouped(torch.relu(self.wide(hidden)))
        return functional.adaptive_avg_pool2d(hidden, 1).flatten(1)


def build(name: str, *, tasks: int = 12, dtype: torch.dtype = torch.float64) -> Case:
    """A case by name; "block" in the name means stacked heads."""
    torch.manual_seed(0)
    block = "block" in name
    if name.startswith("mlp"):
        layers = [nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 32), nn.Tanh()]
        return Case(
            nn.Sequential(*layers).to(dtype), _inputs(6, 20).to(dtype), 32, tasks, block=block
        )
    if name.startswith("recurrent"):
        trunk = Recurrent(16).to(dtype)
        return Case(trunk, _inputs(4, 5, 3).to(dtype), 16, tasks, block=block)
    if name.startswith("tokens"):
        codes = torch.randint(0, 50, (3, 4))
        codes[0, :2] = 3
        return Case(Tokens(24).to(dtype), codes, 24, tasks, block=block)
    if name.startswith("conv"):
        return Case(Residual().to(dtype), _inputs(2, 3, 8, 8).to(dtype), 8, tasks, block=block)
    raise ValueError(name)


def _inputs(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


NAMES = ("mlp", "mlp block", "recurrent", "tokens", "tokens block", "conv", "conv block")


def reference(losses: Tensor, variables: list[Tensor]) -> Tensor:
    """Rows by one plain autograd call per task."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, variables, retain_graph=True, allow_unused=True)
        pieces = [
            torch.zeros_like(v) if g is None else g for g, v in zip(found, variables, strict=True)
        ]
        rows.append(torch.cat([piece.flatten() for piece in pieces]))
    return torch.stack(rows)
