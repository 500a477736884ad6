"""What the families do around a method: zero rows, reuse, parts of a batch, precision, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polytask.balancers import (
    MGDA,
    Equal,
    GradientOptions,
    GramBalancer,
    JacobianBalancer,
    PCGrad,
    UPGrad,
)
from polytask.checks.balancers import ToyNetwork


class Counting(GramBalancer):
    """Equal weights; remembers the Gramians it saw."""

    def __init__(self, *, heads="weighted", **options):
        super().__init__(gradients=GradientOptions(**options), heads=heads)
        self.seen = []

    def weights(self, gram, losses=None):
        self.seen.append(gram)
        return gram.new_full(gram.shape[:-1], 1 / gram.shape[-1])


class Median(JacobianBalancer):
    def combine(self, jacobian, losses=None):
        return jacobian.median(-2).values


def test_zero_rows_leave_before_solving_and_get_the_mean_weight():
    balancer = Counting()
    gram = torch.diag(torch.tensor([4.0, 0.0, 1.0]))
    weights = balancer.solve(gram, torch.ones(3), torch.arange(3))
    assert balancer.seen[0].tolist() == [[4, 0], [0, 1]]
    assert weights.tolist() == [0.5, 0.5, 0.5]
    nothing = balancer.solve(gram * 0, torch.ones(3), torch.arange(3))
    assert nothing.tolist() == pytest.approx([1 / 3] * 3)


def test_every_reuses_weights_and_survives_a_checkpoint():
    balancer, network = Counting(every=3), ToyNetwork(3)
    for _ in range(7):
        network.step(balancer)
    assert len(balancer.seen) == 3
    again = Counting(every=3)
    again.setup(3)
    again.load_state_dict(balancer.state_dict())
    network.step(again)
    assert len(again.seen) == 0


def test_every_computes_for_tasks_that_were_never_seen():
    balancer, network = Counting(every=10), ToyNetwork(3)
    balancer.setup(3)
    network.step(balancer, tasks=[0, 1])
    network.step(balancer, tasks=[0, 1])
    assert len(balancer.seen) == 1
    network.step(balancer, tasks=[1, 2])
    assert len(balancer.seen) == 2


def test_samples_look_at_the_part_and_update_with_the_whole():
    network, balancer = ToyNetwork(3), Counting(samples=0.5)
    losses, _ = network.losses()
    part, features = network.losses()
    asked = []

    def partial_losses(fraction):
        asked.append(fraction)
        return part, features

    wanted = torch.autograd.grad(losses.mean(), network.first, retain_graph=True)[0]
    balancer.backward(losses, shared=network.shared(), partial_losses=partial_losses)
    assert asked == [0.5]
    assert torch.allclose(network.first.grad, wanted)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"scope": "features"}, {"shared": []}, "needs `features`"),
        ({"scope": "last"}, {}, "needs `shared`"),
        (
            {"samples": 0.5},
            {"shared": [torch.ones(1, requires_grad=True)]},
            "needs `partial_losses`",
        ),
    ],
)
def test_missing_inputs_are_named(options, given, message):
    losses = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(ValueError, match=message):
        Counting(**options).backward(losses, **given)


def test_partial_losses_must_keep_the_tasks():
    shared = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"`partial_losses` must return losses of shape \(2,\)"):
        Counting(samples=0.5).backward(
            shared * 2, shared=[shared], partial_losses=lambda f: torch.ones(3)
        )


@pytest.mark.parametrize("tasks", [[0, 0], [0, -1], [0, 7], [0]])
def test_positions_are_checked(tasks):
    balancer = Equal()
    balancer.setup(3)
    with pytest.raises(ValueError, match="tasks"):
        balancer.backward(torch.ones(2, requires_grad=True) * 1, tasks=tasks)


def test_losses_must_match_the_set_up():
    balancer = Equal()
    balancer.setup(3)
    with pytest.raises(ValueError, match="set up for 3 tasks"):
        balancer.backward(torch.ones(2, requires_grad=True) * 1)
    with pytest.raises(ValueError, match="shape"):
        balancer.backward(torch.ones((), requires_grad=True) * 1)
    with pytest.raises(ValueError, match="set up for 3 tasks, found 4"):
        balancer.setup(4)


def test_small_budget_gives_the_same_gradients():
    gradients = []
    for memory in (None, 100):
        network = ToyNetwork(9)
        network.step(UPGrad(gradients=GradientOptions(memory=memory)))
        gradients.append(network.gradients())
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][name], gradient), name


def test_jacobian_methods_report_the_closest_weights():
    jacobian = torch.eye(3, 5, dtype=torch.float64)
    direction, weights = Median().solve(jacobian, torch.ones(3), torch.arange(3))
    assert torch.allclose(weights.double() @ jacobian, direction)


@pytest.mark.parametrize("method", [MGDA, UPGrad, PCGrad])
def test_autocast_gives_the_weights_of_full_precision(method):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    heads, inputs = nn.Linear(32, 4), torch.randn(64, 10)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            outputs = heads(trunk(inputs))
        losses = (outputs.float() - torch.arange(4.0)).square().mean(0)
        found.append(method().backward(losses, shared=trunk.parameters(), scale=1024.0))
        trunk.zero_grad()
    assert torch.allclose(found[0], found[1], atol=0.02)


def test_accumulated_batches_equal_one_large_batch():
    torch.manual_seed(0)
    trunk, heads, inputs = nn.Linear(6, 8), nn.Linear(8, 3), torch.randn(12, 6)

    def losses(rows):
        return (torch.tanh(trunk(rows)) @ heads.weight.mT - 1).square().mean(0)

    found = []
    for parts in (1, 3):
        trunk.zero_grad()
        mean = torch.stack([losses(part) for part in inputs.chunk(parts)]).mean(0)
        weights = MGDA().backward(mean, shared=trunk.parameters())
        found.append((weights, trunk.weight.grad.clone()))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
