"""Every public case of the methods that weigh losses, at the tolerances of the index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polytask.balancers import (
    DBMTL,
    FAMO,
    IMTLL,
    AgnosticMinimax,
    BoundaryIntersection,
    DynamicTaskPrioritization,
    DynamicWeightAverage,
    ExcessMTL,
    GeometricMean,
    GradNorm,
    HighestLoss,
    RandomLossWeighting,
    SmoothTchebycheff,
    UncertaintyWeighting,
)
from polytask.balancers.dtp import focal
from polytask.balancers.gradnorm import gradient_targets

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"

Arrays = dict[str, Tensor]
Runner = Callable[[dict, Arrays], Arrays]


def _cases() -> list[dict]:
    index = FIXTURES / "index.json"
    if not index.is_file():
        return []
    cases = json.loads(index.read_text())["cases"]
    return [
        case
        for case in cases
        if case["category"] == "weighting" or case["method"] in ("db_mtl", "excess_mtl")
    ]


def set_up(balancer, given: Arrays, key: str = "losses"):
    balancer.setup(given[key].shape[-1])
    return balancer


def objective(balancer, losses: Tensor) -> tuple[Tensor, Tensor]:
    """The total and its derivatives by the losses."""
    losses = losses.clone().requires_grad_()
    total, _ = balancer.objective(losses, torch.arange(len(losses)))
    return total, torch.autograd.grad(total, losses, retain_graph=True)[0]


def uncertainty(case: dict, given: Arrays) -> Arrays:
    found = {}
    kinds = ["softmax" if kind else "gaussian" for kind in given["kind"]]
    for suffix, names in (("", kinds), ("_all_regression", None)):
        balancer = set_up(UncertaintyWeighting(likelihoods=names), given)
        balancer.log_variances = torch.nn.Parameter(given["s"].clone())
        total, by_loss = objective(balancer, given["losses"])
        found["total" + suffix] = total
        found["grad_s" + suffix] = torch.autograd.grad(total, balancer.log_variances)[0]
        if not suffix:
            found["grad_L"] = by_loss
            assert torch.allclose(balancer.weights(given["losses"]), by_loss)
    return found


def dwa(case: dict, given: Arrays) -> Arrays:
    balancer = set_up(DynamicWeightAverage(temperature=case["params"]["T"]), given, "history")
    rows = []
    for means in given["history"]:
        rows.append(balancer.weights(means))
        balancer.end_epoch(means)
    return {"lambdas": torch.stack(rows)}


def gradnorm(case: dict, given: Arrays) -> Arrays:
    alpha, rate = case["params"]["alpha"], case["params"]["lr"]
    w, n = given["w"], given["norms"]
    targets, gradient = gradient_targets(w, n, given["losses"], given["losses0"], alpha=alpha)
    balancer = set_up(GradNorm(alpha=alpha, learning_rate=rate), given)
    balancer.values.copy_(w)
    balancer.initial_losses.copy_(given["losses0"])
    used = balancer.weights(torch.diag(n**2), given["losses"])
    assert torch.equal(used, w)
    moved = w - rate * gradient
    return {
        "G": w * n,
        "targets": targets,
        "L_grad": (w * n - targets).abs().sum(),
        "grad_w": gradient,
        "w_sgd": moved * len(w) / moved.sum(),
        # The balancer keeps the sum of the weights, the fixture makes it T.
        "w_adam": balancer.values * len(w) / balancer.values.sum(),
    }


def gradnorm_libmtl(case: dict, given: Arrays) -> Arrays:
    balancer = GradNorm(alpha=case["params"]["alpha"], parameterisation="softmax")
    set_up(balancer, given)
    balancer.values.copy_(given["s"])
    balancer.initial_losses.copy_(given["losses0"])
    gram = given["J"] @ given["J"].mT
    used = balancer.weights(gram, given["losses"])
    # After one step from a fresh state Adam's first moment is a tenth of the gradient.
    return {"w": used, "grad_s": balancer.optimizer.first * 10, "out": used @ given["J"]}


def dtp(case: dict, given: Arrays) -> Arrays:
    tasks = given["kappas"].shape[1]
    balancer = DynamicTaskPrioritization(
        smoothing=case["params"]["ema_alpha"], gamma=given["gammas"].tolist()
    )
    balancer.setup(tasks)
    indicators, weights = [], []
    for scores in given["kappas"]:
        balancer.end_epoch(torch.ones(tasks), scores)
        indicators.append(balancer.indicators.clone())
        weights.append(balancer.weights(torch.ones(tasks, dtype=torch.float64)))
    p = given["p"].clone().requires_grad_()
    own = torch.where(given["y"] == 1, p, 1 - p)
    examples = focal(own, case["params"]["gamma0"]).mean(1)
    total = (weights[-1] * examples).sum()
    return {
        "kbar": torch.stack(indicators),
        "task_weights": torch.stack(weights),
        "example_losses": examples,
        "total": total,
        "grad_p": torch.autograd.grad(total, p)[0],
    }


def rlw(case: dict, given: Arrays) -> Arrays:
    weights = RandomLossWeighting().weights(given["losses"], noise=given["z"])
    return {"weights": weights, "total": (weights * given["losses"]).sum()}


def gls(case: dict, given: Arrays) -> Arrays:
    balancer = GeometricMean()
    return {
        "total": balancer.total(given["losses"]),
        "weights": balancer.weights(given["losses"]),
    }


def famo(case: dict, given: Arrays) -> Arrays:
    balancer = FAMO(
        learning_rate=case["params"]["w_lr"],
        decay=case["params"]["gamma"],
        min_losses=given["min_losses"].tolist(),
    )
    set_up(balancer, given)
    rows = {"loss": [], "grad_L": [], "ws": []}
    for before, after in zip(given["losses"], given["losses_after"], strict=True):
        excess = before - given["min_losses"] + 1e-8
        z = torch.softmax(balancer.logits, dim=0)
        rows["loss"].append((z * excess.log()).sum() / (z / excess).sum())
        losses = before.clone().requires_grad_()
        balancer.backward(losses)
        rows["grad_L"].append(losses.grad)
        balancer.after_step(after)
        rows["ws"].append(balancer.logits.clone())
    return {name: torch.stack(values) for name, values in rows.items()}


def almo(case: dict, given: Arrays) -> Arrays:
    found = {"worst": [], "lams_proj": [], "lams_eg": [], "weighted_proj": []}
    for ascent, name in (("projected", "lams_proj"), ("exponentiated", "lams_eg")):
        balancer = AgnosticMinimax(step_size=case["params"]["gamma_lambda"], ascent=ascent)
        set_up(balancer, given)
        balancer.mixture.copy_(given["lam0"])
        for losses in given["losses"]:
            total, _ = balancer.objective(losses, torch.arange(len(losses)))
            found[name].append(balancer.mixture.clone())
            if ascent == "projected":
                found["weighted_proj"].append(total)
                found["worst"].append((HighestLoss().weights(losses) * losses).sum())
    return {name: torch.stack(values) for name, values in found.items()}


def stch(case: dict, given: Arrays) -> Arrays:
    balancer = SmoothTchebycheff(
        smoothness=case["params"]["mu"],
        space="linear",
        preference=given["lam"].tolist(),
        ideal=given["z"].tolist(),
    )
    set_up(balancer, given, "f")
    return {"value": balancer.total(given["f"]), "grad_f": balancer.weights(given["f"])}


def stch_mtl(case: dict, given: Arrays) -> Arrays:
    balancer = SmoothTchebycheff(smoothness=case["params"]["mu"], warmup_epochs=1)
    set_up(balancer, given)
    balancer.end_epoch(given["nadir"])
    losses = given["losses"]
    # The recorded code subtracts the largest logarithm for the numerics and does not add it back;
    # subtracting it from our value afterwards would cancel what is left.
    exponents, _ = balancer._exponents(losses, None)
    value = (exponents - exponents.max()).logsumexp(-1) * len(losses) * balancer.smoothness
    whole = value + len(losses) * (losses / given["nadir"]).log().max()
    assert torch.allclose(balancer.total(losses), whole)
    return {"value": value, "grad_L": balancer.weights(losses)}


def imtl_l(case: dict, given: Arrays) -> Arrays:
    balancer = set_up(IMTLL(), given)
    balancer.log_scales = torch.nn.Parameter(given["s"].clone())
    total, _ = objective(balancer, given["losses"])
    gradient = torch.autograd.grad(total, balancer.log_scales)[0]
    optimum = given["s"] - (balancer.weights(given["losses"]) * given["losses"]).log()
    return {"total": total, "grad_s": gradient, "s_opt": optimum}


def pbi(case: dict, given: Arrays) -> Arrays:
    balancer = BoundaryIntersection(
        preference=given["w"].tolist(),
        theta=case["params"]["theta"],
        reference=given["z"].tolist(),
    )
    set_up(balancer, given, "f")
    return {"value": balancer.total(given["f"])}


def db_mtl(case: dict, given: Arrays) -> Arrays:
    balancer = DBMTL(beta=case["params"]["beta"], sigma=case["params"]["beta_sigma"])
    pairs = zip(given["Js"], given["losses"], strict=True)
    return {"outs": torch.stack([balancer.combine(rows, losses) for rows, losses in pairs])}


def excess_mtl(case: dict, given: Arrays) -> Arrays:
    balancer = ExcessMTL(step_size=case["params"]["robust_step_size"])
    outs, weights = [], []
    for rows in given["Js"]:
        outs.append(balancer.combine(rows))
        weights.append(balancer.task_weights.clone())
    return {"outs": torch.stack(outs), "ws": torch.stack(weights)}


RUNNERS: dict[str, Runner] = {
    runner.__name__: runner
    for runner in (
        uncertainty, dwa, gradnorm, gradnorm_libmtl, dtp, rlw, gls, famo, almo, stch, stch_mtl,
        imtl_l, pbi, db_mtl, excess_mtl,
    )
}  # fmt: skip


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case["id"])
def test_case(case):
    arrays = np.load(FIXTURES / case["file"])
    given = {name: torch.from_numpy(arrays[x["key"]]) for name, x in case["inputs"].items()}
    found = RUNNERS[case["method"]](case, given)
    for name, output in case["outputs"].items():
        if not output["canonical"]:
            continue
        wanted = torch.from_numpy(np.asarray(arrays[output["key"]]))
        limit = output["atol"] + output["rtol"] * wanted.abs()
        error = (found[name].detach() - wanted).abs()
        assert bool((error <= limit).all()), f"{name}: off by {error.max():.3g}"


def test_no_case_is_left_out(shared):
    assert len(_cases()) == 39
    assert {case["method"] for case in _cases()} == set(RUNNERS)
