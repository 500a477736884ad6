"""What ``backward`` leaves in ``.grad``.

Shape legend: T tasks.
"""

from __future__ import annotations

import copy

import torch

from polytask.balancers import JacobianBalancer, LossBalancer
from polytask.checks.balancers.examples import (
    Example,
    close,
    counts,
    flat_gradient,
    fresh,
    network_for,
    replayed,
    with_arguments,
    with_gradients,
)
from polytask.checks.balancers.network import ToyNetwork
from polytask.config import arguments

__all__ = [
    "check_accumulates",
    "check_channels_last",
    "check_cost",
    "check_gradients_match_weights",
    "check_loss_scale",
    "check_missing_tasks",
    "check_single_task",
    "check_writes_only_gradients",
    "check_zero_gradient_keeps_head",
]


def check_writes_only_gradients(example: Example) -> None:
    """``backward`` fills the gradients that plain training would fill and changes nothing else."""
    network = network_for(example)
    balancer = fresh(example, len(network.heads))
    losses, features = network.batches(balancer)
    kept, before = losses.detach().clone(), copy.deepcopy(network.state_dict())
    scope = balancer.scope or "trunk"
    weights = balancer.backward(losses, shared=network.shared(scope), features=features)
    assert not weights.requires_grad, "weights must be detached"
    assert weights.shape == (len(network.heads),), f"weights are {tuple(weights.shape)}"
    assert torch.equal(losses.detach(), kept), "the losses were modified"
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), f"parameter {name!r} was modified"
    extra = {"unused", "frozen"} & set(network.gradients())
    assert not extra, f"a gradient for {sorted(extra)}, which no loss depends on"
    filled = {name for name, grad in network.gradients().items() if bool((grad != 0).any())}
    heads = {f"heads.{task}" for task in range(len(network.heads))}
    if bool((weights != 0).all()):
        missing = ({"first", "second"} | heads) - filled
        assert not missing, f"no gradient for {sorted(missing)}"


def check_gradients_match_weights(example: Example) -> None:
    """Trunk: ``J^T w`` or the combination of J. Heads: by the rule, weighted or mean."""
    for rule in ("weighted", "mean"):
        if rule == "mean" and "heads" not in arguments(example()):
            continue
        count = counts(example)[-1]
        network = ToyNetwork(count)
        balancer = fresh(with_arguments(example, heads=rule), count)
        losses, features = network.batches(balancer)
        update = losses if losses.dim() == 1 else losses[-1]
        trunk = [network.first, network.second, network.side]
        names = ["first", "second", "side"]
        jacobian = [flat_gradient(loss, trunk) for loss in update]
        scope = balancer.scope or "trunk"
        weights = balancer.backward(losses, shared=network.shared(scope), features=features)
        filled = network.gradients()
        found = torch.cat(
            [
                filled.get(name, torch.zeros_like(value)).flatten()
                for name, value in zip(names, trunk, strict=True)
            ]
        )
        if not isinstance(balancer, JacobianBalancer):
            expected = weights @ torch.stack(jacobian)
            assert close(found, expected, 1e-9), "the trunk's gradient is not J^T w"
        weighted = rule == "weighted" and not (
            isinstance(balancer, JacobianBalancer) and not balancer.weighs_heads
        )
        clean, _ = replayed(network, balancer)
        for task, head in enumerate(network.heads):
            factor = weights[task] if weighted else 1 / count
            wanted = factor * torch.autograd.grad(clean[task], head, retain_graph=True)[0]
            got = head.grad if head.grad is not None else torch.zeros_like(head)
            assert close(got, wanted, 1e-9), f"head {task} breaks the rule {rule!r}"


def check_cost(example: Example) -> None:
    """Backward passes through the trunk are as many as declared."""
    for count in (c for c in counts(example) if c > 1):
        balancer = fresh(with_gradients(example, scope="trunk"), count)
        network = ToyNetwork(count)
        network.step(balancer)
        allowed = {
            "1": {1},
            "T": {count},
            "T + 1": {count, count + 1},
            "2 T + 1": {2 * count + 1},
        }[balancer.cost]
        passes = network.passes[-1]
        assert passes in allowed, f"{passes} trunk passes with {count} tasks, not {balancer.cost}"


def check_single_task(example: Example) -> None:
    """With one task it is plain training: weight 1 and the loss's own gradient."""
    if 1 not in counts(example):
        return
    network = ToyNetwork(1)
    weights = network.step(fresh(example, 1))
    assert weights.tolist() == [1.0], f"the weight of the only task is {weights.tolist()}"
    clean, _ = replayed(network, example())
    for name, parameter in network.named_parameters():
        if name.startswith(("first", "second", "heads")):
            wanted = torch.autograd.grad(clean.sum(), parameter, retain_graph=True)[0]
            assert parameter.grad is not None, f"no gradient for {name}"
            if example().batches_per_step == 1:
                assert close(parameter.grad, wanted, 1e-9), f"{name} differs from plain training"


def check_missing_tasks(example: Example) -> None:
    """Tasks without labels take no part, and their heads get nothing."""
    count = counts(example)[-1]
    present = [task for task in range(count) if task != 1]
    balancer, network = fresh(example, count), ToyNetwork(count)
    for tasks in (None, present, None):
        network.zero_grad(set_to_none=True)
        weights = network.step(balancer, tasks=tasks)
        assert len(weights) == (count if tasks is None else len(present)), "weights are misshaped"
        assert bool(weights.isfinite().all()), "weights are not finite"
        if tasks is not None:
            assert network.heads[1].grad is None, "the head of an absent task got a gradient"


def check_zero_gradient_keeps_head(example: Example) -> None:
    """A head that starts at zero sends no gradient to the trunk, and still learns."""
    count = counts(example)[-1]
    balancer, network = fresh(example, count), ToyNetwork(count)
    if isinstance(balancer, LossBalancer):
        return
    with torch.no_grad():
        network.heads[1].zero_()
    weights = network.step(balancer)
    assert bool(weights.isfinite().all()), f"weights are {weights.tolist()}"
    grad = network.heads[1].grad
    others_learn = bool((weights[torch.arange(count) != 1] != 0).any())
    assert grad is not None, "the head got no gradient"
    assert bool((grad != 0).any()) or not others_learn, "the head will never learn"


def check_accumulates(example: Example) -> None:
    """Gradients are added to those that are there."""
    count = counts(example)[-1]
    first, second = ToyNetwork(count), ToyNetwork(count)
    for parameter in second.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    first.step(fresh(example, count))
    second.step(fresh(example, count))
    added = second.gradients()
    for name, gradient in first.gradients().items():
        assert close(added[name] - 1, gradient, 1e-6), f"{name} was overwritten, not added to"


def check_loss_scale(example: Example) -> None:
    """A gradient scaler's factor scales the gradients and leaves the weights."""
    count = counts(example)[-1]
    plain, scaled = ToyNetwork(count), ToyNetwork(count)
    weights = plain.step(fresh(example, count))
    same = scaled.step(fresh(example, count), scale=1024.0)
    assert close(same, weights, 1e-9), "the weights depend on the scale"
    factor = scaled.gradients()
    for name, gradient in plain.gradients().items():
        assert close(factor[name] / 1024, gradient, 1e-9), f"{name} is not scaled"


def check_channels_last(example: Example) -> None:
    """A convolutional trunk in channels-last layout gives the gradients of the usual layout."""
    count = counts(example)[-1]
    balancer = example()
    if balancer.batches_per_step > 1 or count == 1:
        return
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=layout)
        images = torch.randn(5, 3, 6, 6, generator=generator).to(memory_format=layout)
        heads = torch.randn(count, 4, generator=generator)
        weight.requires_grad_()
        features = torch.relu(torch.nn.functional.conv2d(images, weight)).mean((2, 3))
        losses = (features @ heads.mT - 1).square().mean(0)
        own = fresh(with_gradients(example, scope="trunk"), count)
        own.backward(losses, shared=[weight], features=features)
        assert weight.grad is not None
        assert weight.grad.stride() == weight.stride(), "the gradient has another layout"
        found.append(weight.grad.contiguous())
    assert close(found[1], found[0], 1e-4), "layouts disagree"
