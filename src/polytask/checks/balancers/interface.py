"""A balancer as an object: its options, copies, errors and documentation."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import sys
from typing import Any

import torch

from polytask import balancers
from polytask.balancers import Balancer
from polytask.checks.balancers.examples import (
    Example,
    counts,
    fresh,
    with_arguments,
    with_gradients,
)
from polytask.checks.balancers.network import ToyNetwork
from polytask.config import arguments

__all__ = ["check_bad_values", "check_documentation", "check_options", "check_round_trips"]


def check_options(example: Example) -> None:
    """Every ``GradientOptions``, where a balancer has them, gives finite gradients in the trunk."""
    if "gradients" not in arguments(example()):
        return
    count = counts(example)[-1]
    options: list[dict[str, Any]] = [{"every": 3}, {"memory": 64}]
    if example().batches_per_step == 1:
        options += [{"scope": scope} for scope in ("trunk", "last", "features")]
        options.append({"samples": 0.5})
    for chosen in options:
        balancer, network = fresh(with_gradients(example, **chosen), count), ToyNetwork(count)
        for _ in range(4):
            weights = network.step(balancer)
            assert bool(weights.isfinite().all()), f"weights are not finite with {chosen}"
        assert bool((network.gradients()["first"] != 0).any()), f"the trunk stands with {chosen}"


def check_round_trips(example: Example) -> None:
    """``repr``, pickle and deep copy make equal balancers; a restored state goes on bit by bit."""
    count = counts(example)[-1]
    balancer = example()
    namespace = {name: getattr(balancers, name) for name in balancers.__all__}
    if "<" not in repr(balancer):
        namespace |= _module_of(balancer) | {type(balancer).__name__: type(balancer)}
        again = eval(repr(balancer), namespace)
        assert repr(again) == repr(balancer), f"repr gives {again!r} back"
    balancer.setup(count)
    network = ToyNetwork(count)
    for _ in range(3):
        network.step(balancer)
        balancer.end_epoch(torch.ones(count), torch.full((count,), 0.5))
    resumed = fresh(example, count)
    resumed.load_state_dict(balancer.state_dict())
    copies = [copy.deepcopy(balancer), resumed]
    # A class that was made inside a function has no address to be pickled by.
    if "<" not in repr(balancer) and type(balancer).__name__ in _module_of(balancer):
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


def check_bad_values(example: Example) -> None:
    """An impossible argument is refused with an error that names it."""
    for name, value in arguments(example()).items():
        if not isinstance(value, str | float):
            continue
        bad: object = "nonsense" if isinstance(value, str) else math.nan
        try:
            with_arguments(example, **{name: bad})()
        except (ValueError, TypeError) as error:
            assert name in str(error), f"the error for {name}={bad!r} does not name it: {error}"
        else:
            raise AssertionError(f"{name}={bad!r} was accepted")


def check_documentation(example: Example) -> None:
    """The docstring explains every argument, the cost, the differences and where it comes from."""
    text = inspect.getdoc(type(example())) or ""
    for section in ("Args:", "Differences", "Cost:", "Needs:", "Example:", "References:"):
        assert section in text, f"the docstring lacks {section!r}"
    for name in arguments(example()):
        assert f"{name}:" in text, f"the docstring does not explain `{name}`"


def _module_of(balancer: Balancer) -> dict[str, Any]:
    """The names in the module that defines the balancer's class."""
    module = sys.modules.get(type(balancer).__module__)
    return {} if module is None else dict(vars(module))
