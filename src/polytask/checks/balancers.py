"""What every balancer must satisfy.

A check takes an *example*, a function that makes a small fresh balancer (the classmethod
``Balancer.example``, or a function of yours), and raises ``AssertionError`` with a sentence that
says what is wrong. ``CHECKS`` holds all of them::

    for check in polytask.checks.balancers.CHECKS:
        check(MyBalancer.example)

Checks of a declared property (``scale_invariant`` and the like) pass on balancers that do not
declare it.

Shape legend: T tasks, P shared parameters, S batches of a step.
"""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask import balancers
from polytask.balancers import Balancer, GramBalancer, JacobianBalancer, LossBalancer
from polytask.checks import zoo
from polytask.config import arguments
from polytask.solvers import random_orders

__all__ = ["CHECKS", "Example", "ToyNetwork", "public_balancers"]

Example = Callable[[], Balancer]
#: Buffers of the base class; more than these is state of a method's own.
EVERY_BALANCER = frozenset({"steps", "last_weights"})


def public_balancers() -> list[type[Balancer]]:
    """The concrete balancers among the exports of ``polytask.balancers``."""
    exported = [getattr(balancers, name) for name in balancers.__all__]
    return [
        item
        for item in exported
        if isinstance(item, type)
        and issubclass(item, Balancer)
        and not getattr(item, "__abstractmethods__", None)
    ]


class _Counter(torch.autograd.Function):
    """The identity, which counts the backward passes that come through."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counts[-1] += 1
        return gradient, None


class ToyNetwork(nn.Module):
    """A trunk with T linear heads, a shared parameter that no task uses, a frozen one, and one that
    only the first task uses.

    Args:
        tasks: T.
        dtype: Of parameters and inputs.
    """

    def __init__(self, tasks: int, *, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(tasks)

        def values(*shape: int) -> nn.Parameter:
            draw = torch.randn(shape, generator=generator, dtype=torch.float64)
            return nn.Parameter((draw / math.sqrt(shape[-1])).to(dtype))

        self.first, self.second, self.side = values(6, 5), values(4, 6), values(4)
        self.unused, self.frozen = values(3), values(4)
        self.frozen.requires_grad_(False)
        self.heads = nn.ParameterList([values(2, 4) for _ in range(tasks)])
        self.generator = generator
        self.passes = [0]

    def shared(self, scope: str = "trunk") -> list[Tensor]:
        """The shared parameters, or those of the last shared layer."""
        last: list[Tensor] = [self.second, self.frozen, self.unused, self.side]
        return last if scope == "last" else [self.first, *last]

    def losses(self, tasks: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Positive losses ``[T]`` of a fresh batch, and the features ``[B, 4]``."""
        inputs = torch.randn(8, 5, generator=self.generator, dtype=torch.float64)
        hidden = torch.tanh(inputs.to(self.first) @ self.first.mT)
        hidden = _Counter.apply(hidden, self.passes)  # type: ignore[no-untyped-call]
        features = torch.tanh(torch.nn.functional.linear(hidden, self.second, self.frozen))
        chosen = range(len(self.heads)) if tasks is None else tasks
        values = []
        for task in chosen:
            outputs = torch.nn.functional.linear(features, self.heads[task]) - 0.5
            extra = self.side.square().sum() if task == 0 else 0.0
            values.append(outputs.square().mean() * (task + 1) + extra)
        return torch.stack(values), features

    def batches(
        self, balancer: Balancer, tasks: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The losses of one step, ``[T]`` or ``[S, T]``, and the features if there is one batch."""
        if balancer.batches_per_step == 1:
            return self.losses(tasks)
        stack = [self.losses(tasks)[0] for _ in range(balancer.batches_per_step)]
        return torch.stack(stack), None

    def step(self, balancer: Balancer, **options: Any) -> Tensor:
        """One backward pass by the balancer on a fresh batch; returns its weights."""
        tasks = options.get("tasks")
        losses, features = self.batches(balancer, tasks)
        scope = getattr(balancer, "scope", "trunk")
        weights = balancer.backward(
            losses,
            shared=self.shared(scope),
            features=features,
            subset=lambda fraction: self.losses(tasks)[0] if 0 < fraction < 1 else losses,
            **options,
        )
        if balancer.revisits_losses:
            balancer.after_step(losses.detach() * 0.9, tasks=tasks)
        return weights

    def gradients(self) -> dict[str, Tensor]:
        """Copies of all gradients that exist."""
        found = {name: p.grad for name, p in self.named_parameters()}
        return {name: grad.clone() for name, grad in found.items() if grad is not None}


def check_finite_on_zoo(example: Example) -> None:
    """Weights are finite and one per task, whatever gradients and losses come."""
    for count in _counts(example):
        for name, rows in zoo.jacobians(count).items():
            for dtype in (torch.float64, torch.float32):
                losses = torch.linspace(0.5, 2.0, count, dtype=dtype)
                weights, direction = _solve(_fresh(example, count), rows.to(dtype), losses)
                where = f"on {name!r} with {count} tasks in {dtype}"
                assert weights.shape == (count,), f"weights are {tuple(weights.shape)} {where}"
                assert bool(weights.isfinite().all()), f"weights are {weights.tolist()} {where}"
                assert direction.shape == rows.shape[1:], f"direction is misshaped {where}"
                assert bool(direction.isfinite().all()), f"the direction is not finite {where}"
        for name, losses in zoo.losses(count).items():
            weights, _ = _solve(_fresh(example, count), zoo.regular(count), losses)
            assert bool(weights.isfinite().all()), f"weights are not finite on {name!r} losses"


def check_writes_only_gradients(example: Example) -> None:
    """``backward`` fills the gradients that plain training would fill and changes nothing else."""
    network = _network(example)
    balancer = _fresh(example, len(network.heads))
    losses, features = network.batches(balancer)
    kept, before = losses.detach().clone(), copy.deepcopy(network.state_dict())
    scope = getattr(balancer, "scope", "trunk")
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
    if "HighestLoss" not in type(balancer).__name__ and bool((weights != 0).all()):
        missing = ({"first", "second"} | heads) - filled
        assert not missing, f"no gradient for {sorted(missing)}"


def check_gradients_match_weights(example: Example) -> None:
    """Trunk: ``J^T w`` or the combination of J. Heads: by the head rule, weighted and plain."""
    for rule in ("weighted", "plain"):
        if rule == "plain" and "heads" not in arguments(example()):
            continue
        count = _counts(example)[-1]
        network = ToyNetwork(count)
        balancer = _fresh(_with(example, heads=rule), count)
        losses, features = network.batches(balancer)
        update = losses if losses.dim() == 1 else losses[-1]
        trunk = [network.first, network.second, network.side]
        names = ["first", "second", "side"]
        jacobian = [_flat(loss, trunk) for loss in update]
        scope = getattr(balancer, "scope", "trunk")
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
            assert _close(found, expected, 1e-9), "the trunk's gradient is not J^T w"
        weighted = rule == "weighted" and not (
            isinstance(balancer, JacobianBalancer) and not balancer.weighs_heads
        )
        clean, _ = _replayed(network, balancer)
        for task, head in enumerate(network.heads):
            factor = weights[task] if weighted else 1 / count
            wanted = factor * torch.autograd.grad(clean[task], head, retain_graph=True)[0]
            got = head.grad if head.grad is not None else torch.zeros_like(head)
            assert _close(got, wanted, 1e-9), f"head {task} breaks the rule {rule!r}"


def check_permutation(example: Example) -> None:
    """Tasks in another order get the same combined gradient."""
    if not example().permutation_equivariant:
        return
    for count in _counts(example):
        rows = zoo.regular(count)
        losses = torch.linspace(0.5, 2.0, count, dtype=torch.float64)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
        if _has_task_arguments(example()):
            continue
        _, straight = _solve(_fresh(example, count), rows, losses)
        _, permuted = _solve(_fresh(example, count), rows[order], losses[order])
        assert _close(permuted, straight, 1e-6), f"order matters with {count} tasks"


def check_precision(example: Example) -> None:
    """Single and double precision agree, and each keeps its type."""
    count = _counts(example)[-1]
    found = {}
    for dtype in (torch.float64, torch.float32):
        losses = torch.linspace(0.5, 2.0, count, dtype=dtype)
        rows = zoo.regular(count, dtype=dtype)
        weights, direction = _solve(_fresh(example, count), rows, losses)
        assert weights.dtype == dtype, f"weights are {weights.dtype} for {dtype}"
        assert direction.dtype == dtype, f"the direction is {direction.dtype} for {dtype}"
        network = ToyNetwork(count, dtype=dtype)
        assert network.step(_fresh(example, count)).dtype == dtype, f"backward changes {dtype}"
        found[dtype] = direction.double()
    assert _close(found[torch.float32], found[torch.float64], 1e-3), "precisions disagree"


def check_cost(example: Example) -> None:
    """Backward passes through the trunk are as many as declared."""
    for count in (c for c in _counts(example) if c > 1):
        balancer = _fresh(_with(example, scope="trunk"), count)
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


def check_batches(example: Example) -> None:
    """Leading dimensions are problems of their own: each has the result that it has alone.

    Balancers that carry task state from step to step see one problem at a time.
    """
    given = example()
    if not isinstance(given, GramBalancer | JacobianBalancer):
        return
    for count in _counts(example):
        if {name for name, _ in _fresh(example, count).named_buffers()} - EVERY_BALANCER:
            return
        rows = torch.stack([zoo.regular(count, seed=seed) for seed in range(6)])
        losses = torch.linspace(0.5, 2.0, 6 * count, dtype=torch.float64).reshape(6, count)
        draws = _draws_for(given, rows)
        together = _pure(_fresh(example, count), rows.unflatten(0, (2, 3)), losses, draws, (2, 3))
        for i, found in enumerate(together.flatten(0, 1)):
            own = {name: value[i] for name, value in draws.items()}
            alone = _pure(_fresh(example, count), rows[i], losses[i], own)
            assert _close(found, alone, 1e-6), f"problem {i} of a batch has another result alone"


def check_scale_invariance(example: Example) -> None:
    """Declared: all losses times 1e-6 or 1e6 leave the direction as it is."""
    if not example().scale_invariant:
        return
    for count in _counts(example):
        rows = zoo.regular(count)
        losses = torch.linspace(0.5, 2.0, count, dtype=torch.float64)
        _, reference = _solve(_fresh(example, count), rows, losses)
        for factor in (1e-6, 1e6):
            _, scaled = _solve(_fresh(example, count), rows * factor, losses * factor)
            cosine = torch.nn.functional.cosine_similarity(scaled, reference, dim=0)
            assert float(cosine) > 1 - 1e-6, f"losses times {factor} turn it to cosine {cosine}"


def check_non_conflicting(example: Example) -> None:
    """Declared: the direction opposes no task's gradient, however short that gradient is."""
    if not example().non_conflicting:
        return
    for count in (c for c in _counts(example) if c > 1):
        for ratio in (1.0, 1e-3, 1e-6):
            for seed in range(3):
                rows = zoo.conflicting(count, ratio, seed=seed)
                losses = torch.linspace(0.5, 2.0, count, dtype=torch.float64)
                _, direction = _solve(_fresh(example, count), rows, losses)
                lengths = rows.norm(dim=1) * direction.norm()
                cosines = (rows @ direction) / lengths.clamp_min(1e-300)
                worst = float(cosines.min())
                assert worst > -1e-6, f"cosine {worst} to a task {ratio} times shorter"


def check_stationary_fixed_point(example: Example) -> None:
    """Declared: where a convex combination of the gradients vanishes, so does the update."""
    if not example().stationary_fixed_point:
        return
    for count in (c for c in _counts(example) if c > 1):
        for name in ("opposite", "stationary") if count > 2 else ("opposite",):
            rows = zoo.jacobians(count)[name]
            rows = rows[:2] if name == "opposite" else rows
            losses = torch.ones(len(rows), dtype=torch.float64)
            _, direction = _solve(_fresh(example, len(rows)), rows, losses)
            length = float(direction.norm() / rows.norm(dim=1).max())
            assert length < 1e-4, f"a step of {length} at a stationary point ({name})"


def check_single_task(example: Example) -> None:
    """With one task it is plain training: weight 1 and the loss's own gradient."""
    if 1 not in _counts(example):
        return
    network = ToyNetwork(1)
    weights = network.step(_fresh(example, 1))
    assert weights.tolist() == [1.0], f"the weight of the only task is {weights.tolist()}"
    clean, _ = _replayed(network, example())
    for name, parameter in network.named_parameters():
        if name.startswith(("first", "second", "heads")):
            wanted = torch.autograd.grad(clean.sum(), parameter, retain_graph=True)[0]
            assert parameter.grad is not None, f"no gradient for {name}"
            if example().batches_per_step == 1:
                assert _close(parameter.grad, wanted, 1e-9), f"{name} differs from plain training"


def check_missing_tasks(example: Example) -> None:
    """Tasks without labels take no part, and their heads get nothing."""
    count = _counts(example)[-1]
    present = [task for task in range(count) if task != 1]
    balancer, network = _fresh(example, count), ToyNetwork(count)
    for tasks in (None, present, None):
        network.zero_grad(set_to_none=True)
        weights = network.step(balancer, tasks=tasks)
        assert len(weights) == (count if tasks is None else len(present)), "weights are misshaped"
        assert bool(weights.isfinite().all()), "weights are not finite"
        if tasks is not None:
            assert network.heads[1].grad is None, "the head of an absent task got a gradient"


def check_zero_gradient_keeps_head(example: Example) -> None:
    """A head that starts at zero sends no gradient to the trunk, and still learns."""
    count = _counts(example)[-1]
    balancer, network = _fresh(example, count), ToyNetwork(count)
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
    count = _counts(example)[-1]
    first, second = ToyNetwork(count), ToyNetwork(count)
    for parameter in second.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    first.step(_fresh(example, count))
    second.step(_fresh(example, count))
    added = second.gradients()
    for name, gradient in first.gradients().items():
        assert _close(added[name] - 1, gradient, 1e-6), f"{name} was overwritten, not added to"


def check_loss_scale(example: Example) -> None:
    """A gradient scaler's factor scales the gradients and leaves the weights."""
    count = _counts(example)[-1]
    plain, scaled = ToyNetwork(count), ToyNetwork(count)
    weights = plain.step(_fresh(example, count))
    same = scaled.step(_fresh(example, count), scale=1024.0)
    assert _close(same, weights, 1e-9), "the weights depend on the scale"
    factor = scaled.gradients()
    for name, gradient in plain.gradients().items():
        assert _close(factor[name] / 1024, gradient, 1e-9), f"{name} is not scaled"


def check_channels_last(example: Example) -> None:
    """A convolutional trunk in channels-last layout gives the gradients of the usual layout."""
    count = _counts(example)[-1]
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
        fresh = _fresh(_with(example, scope="trunk"), count)
        fresh.backward(losses, shared=[weight], features=features)
        assert weight.grad is not None
        assert weight.grad.stride() == weight.stride(), "the gradient has another layout"
        found.append(weight.grad.contiguous())
    assert _close(found[1], found[0], 1e-4), "layouts disagree"


def check_options(example: Example) -> None:
    """Scope, every and samples, where a balancer has them, give finite gradients in the trunk."""
    offered = arguments(example())
    count = _counts(example)[-1]
    options: list[dict[str, Any]] = []
    if "scope" in offered and example().batches_per_step == 1:
        options += [{"scope": scope} for scope in ("trunk", "last", "features")]
    options += [{"every": 3}] if "every" in offered else []
    if "samples" in offered and example().batches_per_step == 1:
        options.append({"samples": 0.5})
    if "memory" in offered:
        options.append({"memory": 64})
    for chosen in options:
        balancer, network = _fresh(_with(example, **chosen), count), ToyNetwork(count)
        for _ in range(4):
            weights = network.step(balancer)
            assert bool(weights.isfinite().all()), f"weights are not finite with {chosen}"
        assert bool((network.gradients()["first"] != 0).any()), f"the trunk stands with {chosen}"


def check_round_trips(example: Example) -> None:
    """``repr``, pickle and deep copy make equal balancers; a restored state goes on bit by bit."""
    count = _counts(example)[-1]
    balancer = example()
    namespace = {name: getattr(balancers, name) for name in balancers.__all__}
    if "<" not in repr(balancer):
        namespace[type(balancer).__name__] = type(balancer)
        again = eval(repr(balancer), namespace)
        assert repr(again) == repr(balancer), f"repr gives {again!r} back"
    balancer.setup(count)
    network = ToyNetwork(count)
    for _ in range(3):
        network.step(balancer)
        balancer.end_epoch(torch.ones(count), torch.full((count,), 0.5))
    resumed = _fresh(example, count)
    resumed.load_state_dict(balancer.state_dict())
    copies = [copy.deepcopy(balancer), resumed]
    if "<" not in repr(balancer):
        copies.append(pickle.loads(pickle.dumps(balancer)))
    state = network.generator.get_state()
    network.zero_grad(set_to_none=True)
    weights, wanted = network.step(balancer), network.gradients()
    for other in copies:
        network.zero_grad(set_to_none=True)
        network.generator.set_state(state)
        assert torch.equal(network.step(other), weights), "a restored balancer weighs differently"
        for name, gradient in network.gradients().items():
            assert torch.equal(gradient, wanted[name]), f"a restored balancer moves {name!r}"


def check_documentation(example: Example) -> None:
    """The docstring explains every argument, the cost, the differences and where it comes from."""
    text = inspect.getdoc(type(example())) or ""
    for section in ("Args:", "Differences", "Cost:", "Needs:", "Example:", "References:"):
        assert section in text, f"the docstring lacks {section!r}"
    for name in arguments(example()):
        assert f"{name}:" in text, f"the docstring does not explain `{name}`"


def check_bad_values(example: Example) -> None:
    """An impossible argument is refused with an error that names it."""
    for name, value in arguments(example()).items():
        bad: object = {"every": 0, "samples": 0.0, "memory": 0}.get(name)
        if bad is None and isinstance(value, str):
            bad = "nonsense"
        elif bad is None and isinstance(value, float):
            bad = math.nan
        if bad is None:
            continue
        try:
            _with(example, **{name: bad})()
        except (ValueError, TypeError) as error:
            assert name in str(error), f"the error for {name}={bad!r} does not name it: {error}"
        else:
            raise AssertionError(f"{name}={bad!r} was accepted")


def _counts(example: Example) -> tuple[int, ...]:
    return type(example()).example_counts


def _network(example: Example) -> ToyNetwork:
    return ToyNetwork(_counts(example)[-1])


def _fresh(example: Example, count: int) -> Balancer:
    balancer = example()
    balancer.setup(count)
    return balancer


def _with(example: Example, **options: Any) -> Example:
    """An example with some of its arguments replaced, as far as it has them."""
    given = example()
    known = arguments(given)
    chosen = {name: value for name, value in options.items() if name in known}
    return lambda: type(given)(**{**known, **chosen})


def _has_task_arguments(balancer: Balancer) -> bool:
    """Whether an argument holds a value per task, which a permutation would have to move along."""
    return any(isinstance(value, tuple) for value in arguments(balancer).values())


def _solve(balancer: Balancer, jacobian: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``[T]`` and direction ``[P]`` as a training step finds them."""
    tasks = torch.arange(len(losses))
    if isinstance(balancer, LossBalancer):
        weights = balancer.weights(losses, tasks)
        return weights, weights.to(jacobian.dtype) @ jacobian
    if isinstance(balancer, GramBalancer):
        weights = balancer.solve(jacobian @ jacobian.mT, losses, tasks)
        return weights, weights.to(jacobian.dtype) @ jacobian
    assert isinstance(balancer, JacobianBalancer), "a balancer belongs to one of three families"
    direction, weights = balancer.solve(jacobian, losses, tasks)
    return weights, direction


def _pure(
    balancer: Balancer,
    rows: Tensor,
    losses: Tensor,
    draws: dict[str, Tensor],
    batch: tuple[int, ...] = (),
) -> Tensor:
    """Weights or directions by the pure function, with the draws given."""
    given = {k: v.unflatten(0, batch) if batch else v for k, v in draws.items()}
    values = losses.unflatten(0, batch) if batch else losses
    if isinstance(balancer, GramBalancer):
        return balancer.weights(rows @ rows.mT, values, **given)
    assert isinstance(balancer, JacobianBalancer)
    return balancer.combine(rows, values, **given)


def _draws_for(balancer: Balancer, rows: Tensor) -> dict[str, Tensor]:
    """What the pure function takes instead of drawing it, one row per problem."""
    name = "weights" if isinstance(balancer, GramBalancer) else "combine"
    known = inspect.signature(getattr(balancer, name)).parameters
    generator = torch.Generator().manual_seed(0)
    problems, tasks, size = rows.shape
    draws: dict[str, Callable[[], Tensor]] = {
        "orders": lambda: random_orders(tasks, generator=generator, batch=(problems,)),
        "noise": lambda: torch.rand(problems, size, generator=generator, dtype=rows.dtype),
    }
    return {name: draw() for name, draw in draws.items() if name in known}


def _replayed(network: ToyNetwork, balancer: Balancer) -> tuple[Tensor, Tensor]:
    """The losses of the network's (last) batch again, with a graph of their own."""
    twin = ToyNetwork(len(network.heads), dtype=network.first.dtype)
    network.generator.set_state(twin.generator.get_state())
    found = network.losses()
    for _ in range(balancer.batches_per_step - 1):
        found = network.losses()
    return found


def _flat(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    pieces = torch.autograd.grad(
        loss, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([piece.flatten() for piece in pieces])


def _close(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Whether two tensors agree relative to the larger one's largest entry."""
    size = float(wanted.abs().max()) if wanted.numel() else 0.0
    return bool((found - wanted).abs().max() <= tolerance * max(size, 1e-300))


#: All checks, in the order in which they are worth reading.
CHECKS: tuple[Callable[[Example], None], ...] = tuple(
    value for name, value in list(globals().items()) if name.startswith("check_")
)
