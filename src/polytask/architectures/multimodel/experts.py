"""A sparsely gated mixture of experts: many small networks, of which each token uses a few.

Shape legend: R tokens, D features, E experts, k experts per token, H hidden units of an expert.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from polytask.encoders.base import check_positive

__all__ = ["MixtureOfExperts"]


class MixtureOfExperts(nn.Module):
    """y = sum_i G_i(x) E_i(x) over the k experts with the largest gates.

    The gates are a softmax over the k largest of h_i = (x W_g)_i + e_i softplus((x W_n)_i), with
    standard Gaussian e_i in training and without noise in evaluation; the other experts are not
    computed. Experts are E_i(x) = relu(x V_i + a_i) U_i + b_i.

    A mixture left to itself uses ever fewer experts. The balance loss is CV(importance)^2 +
    CV(load)^2, with the coefficient of variation over the experts, importance_i = sum_x G_i(x), and
    load_i = sum_x P(x, i), the probability that expert i is chosen if only its noise is drawn anew.

    Args:
        size: D.
        num_experts: E.
        chosen: k, at most E.
        hidden: H; None means 2 D.

    Shapes: tokens ``[R, D]``; results ``[R, D]`` and the balance loss ``[]``.

    Raises:
        ValueError: k greater than E.

    Differences: W_g starts at small random values instead of 0, so that evaluation has no ties.

    Cost: k of E experts per token.

    References:
        N. Shazeer et al., Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts
        Layer, ICLR 2017, https://arxiv.org/abs/1701.06538, equations 3-11.
    """

    def __init__(
        self, *, size: int, num_experts: int = 8, chosen: int = 2, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.size = check_positive("size", size)
        self.num_experts = check_positive("num_experts", num_experts)
        self.chosen = check_positive("chosen", chosen)
        if chosen > num_experts:
            raise ValueError(f"`chosen` must be at most {num_experts} experts, found {chosen}.")
        hidden = check_positive("hidden", 2 * size if hidden is None else hidden)
        self.gate_weight = nn.Parameter(0.01 * torch.randn(size, num_experts))
        self.noise_weight = nn.Parameter(torch.zeros(size, num_experts))
        self.inner_weight = nn.Parameter(
            torch.randn(num_experts, size, hidden) * math.sqrt(2 / size)
        )
        self.inner_bias = nn.Parameter(torch.zeros(num_experts, hidden))
        self.outer_weight = nn.Parameter(torch.randn(num_experts, hidden, size) / math.sqrt(hidden))
        self.outer_bias = nn.Parameter(torch.zeros(num_experts, size))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The mixture, and how unevenly the experts are used."""
        gates, experts, balance = self.route(tokens)
        return self._mix(tokens, gates, experts), balance

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gates ``[R, k]``, the experts ``[R, k]`` they belong to, and the balance loss."""
        clean = tokens @ self.gate_weight
        spread = functional.softplus(tokens @ self.noise_weight)
        noisy = clean + spread * torch.randn_like(clean) if self.training else clean
        values, experts = noisy.topk(self.chosen, dim=-1)
        gates = torch.softmax(values, dim=-1)
        importance = torch.zeros_like(noisy).scatter(-1, experts, gates).sum(0)
        balance = _squared_variation(importance)
        if self.training and self.chosen < self.num_experts:
            balance = balance + _squared_variation(self._load(clean, noisy, spread).sum(0))
        return gates, experts, balance

    def _load(self, clean: Tensor, noisy: Tensor, spread: Tensor) -> Tensor:
        """Probability ``[R, E]`` that a new draw of one expert's noise would have it chosen."""
        largest = noisy.topk(self.chosen + 1, dim=-1).values
        # To be chosen, an expert must beat the k-th largest of the others.
        last_in, first_out = largest[:, -2:-1], largest[:, -1:]
        threshold = torch.where(noisy > first_out, first_out, last_in)
        probability: Tensor = torch.special.ndtr((clean - threshold) / spread)
        return probability

    def _mix(self, tokens: Tensor, gates: Tensor, experts: Tensor) -> Tensor:
        """Every expert on the tokens that chose it, in one piece per expert."""
        order = experts.flatten().argsort(stable=True)
        rows = order // self.chosen
        counts = torch.bincount(experts.flatten(), minlength=self.num_experts).tolist()
        pieces = []
        for expert, piece in enumerate(tokens[rows].split(counts)):
            inner = torch.addmm(self.inner_bias[expert], piece, self.inner_weight[expert]).relu()
            pieces.append(torch.addmm(self.outer_bias[expert], inner, self.outer_weight[expert]))
        weighted = torch.cat(pieces) * gates.flatten()[order].unsqueeze(-1)
        return torch.zeros_like(tokens).index_add(0, rows, weighted.to(tokens.dtype))


def _squared_variation(values: Tensor) -> Tensor:
    """Squared coefficient of variation; 0 where there is nothing to vary."""
    if values.numel() < 2:
        return values.sum() * 0
    return values.var(correction=0) / (values.mean().square() + 1e-10)
