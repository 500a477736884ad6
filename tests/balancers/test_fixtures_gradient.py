"""Every public case of the gradient methods, at the tolerances of the index.

The cases of DB-MTL and ExcessMTL stand with the methods that weigh losses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polytask.balancers import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    DualProj,
    FairGrad,
    GradDrop,
    GradVac,
    Krum,
    MoCo,
    MoDo,
    NashMTL,
    PCGrad,
    TrimmedMean,
    UPGrad,
)
from polytask.solvers import (
    descend_simplex,
    min_norm_frank_wolfe,
    min_norm_two,
    project_conflicts,
    sign_purity,
)

ELSEWHERE = {"db_mtl", "excess_mtl"}
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
        if case["category"] == "aggregation" and case["method"] not in ELSEWHERE
    ]


def _mean_over_orders(jacobian: Tensor) -> Tensor:
    """PCGrad's expectation: rows are independent, so one batch of common orders is enough."""
    count = len(jacobian)
    others = [[j for j in range(count) if j != i] for i in range(count)]
    orders = torch.tensor(
        [[[row[k] for k in order] for row in others] for order in permutations(range(count - 1))],
        dtype=torch.int64,
    ).reshape(factorial(count - 1), count, count - 1)
    gram = (jacobian @ jacobian.mT).expand(len(orders), count, count)
    return project_conflicts(gram, orders).sum(dim=-2).mean(dim=0) @ jacobian


def pcgrad(case: dict, given: Arrays) -> Arrays:
    jacobian, orders = given["J"], given["perms"]
    gram = jacobian @ jacobian.mT
    result = {
        "out": PCGrad().weights(gram, orders=orders) @ jacobian,
        "pc_grads": project_conflicts(gram, orders) @ jacobian,
    }
    if "expected_out" in case["outputs"]:
        result["expected_out"] = _mean_over_orders(jacobian)
    return result


def pcgrad_official_tf(case: dict, given: Arrays) -> Arrays:
    jacobian = given["J"]
    orders = torch.arange(len(jacobian)).expand(len(jacobian), len(jacobian))
    return {"out": PCGrad().weights(jacobian @ jacobian.mT, orders=orders) @ jacobian}


def mgda(case: dict, given: Arrays) -> Arrays:
    jacobian = given["J"]
    out = MGDA().combine(jacobian)
    return {
        "out": out,
        "alpha": MGDA().weights(jacobian @ jacobian.mT),
        "min_norm": out.norm(),
    }


def mgda_two_task(case: dict, given: Arrays) -> Arrays:
    a, b = given["theta"], given["theta_bar"]
    gamma = min_norm_two(a @ a, a @ b, b @ b)
    return {"gamma": gamma, "value": (gamma * a + (1 - gamma) * b).square().sum()}


def mgda_normalisation(case: dict, given: Arrays) -> Arrays:
    jacobian, losses = given["J"], given["losses"]
    balancer = MGDA(normalisation=case["params"]["normalisation"])
    gram = jacobian @ jacobian.mT
    alpha = balancer.weights(gram, losses)
    norms = gram.diagonal().sqrt()
    normaliser = {
        "none": torch.ones_like(losses),
        "l2": norms,
        "loss": losses,
        "loss+": losses * norms,
    }[balancer.normalisation]
    return {
        "gn": normaliser,
        "alpha": alpha,
        "out": balancer.combine(jacobian, losses),
        "out_normalised": (alpha / normaliser) @ jacobian,
    }


def cagrad(case: dict, given: Arrays) -> Arrays:
    jacobian, c = given["J"], case["params"]["c"]
    extra = CAGrad(c=c).weights(jacobian @ jacobian.mT) - 1 / len(jacobian)
    result = {
        "d": CAGrad(c=c).combine(jacobian),
        "d_rescale1": CAGrad(c=c, rescale="square").combine(jacobian),
        "d_rescale2": CAGrad(c=c, rescale="linear").combine(jacobian),
    }
    if "w" in case["outputs"]:
        result["w"] = extra / extra.sum()
    return result


def nash_mtl(case: dict, given: Arrays) -> Arrays:
    jacobian = given["J"]
    return {
        "alpha": NashMTL().weights(jacobian @ jacobian.mT),
        "out": NashMTL().combine(jacobian),
        "out_clip1": NashMTL(max_norm=1.0).combine(jacobian),
    }


def fairgrad(case: dict, given: Arrays) -> Arrays:
    jacobian = given["J"]
    balancer = FairGrad(alpha=case["params"]["alpha"])
    return {"w": balancer.weights(jacobian @ jacobian.mT), "out": balancer.combine(jacobian)}


def imtl_g(case: dict, given: Arrays) -> Arrays:
    jacobian = given["J"]
    out = IMTLG().combine(jacobian)
    result = {"alpha": IMTLG().weights(jacobian @ jacobian.mT), "out": out}
    if "projections" in case["outputs"]:
        result["projections"] = (jacobian @ out) / jacobian.norm(dim=1)
    return result


def aligned_mtl(case: dict, given: Arrays) -> Arrays:
    jacobian = given["J"]
    balancer = AlignedMTL(scale=case["params"]["scale_mode"])
    return {"weights": balancer.weights(jacobian @ jacobian.mT), "out": balancer.combine(jacobian)}


def _dual_cone(kind: type[UPGrad] | type[DualProj]) -> Runner:
    def run(case: dict, given: Arrays) -> Arrays:
        jacobian = given["J"]
        preference = given["pref"].tolist() if "pref" in given else None
        balancer = kind(preference=preference)
        return {
            "out": balancer.combine(jacobian),
            "weights": balancer.weights(jacobian @ jacobian.mT),
        }

    return run


def config(case: dict, given: Arrays) -> Arrays:
    return {"out": ConFIG().combine(given["J"])}


def graddrop(case: dict, given: Arrays) -> Arrays:
    balancer = GradDrop(leak=given["leak"].tolist())
    return {
        "out": balancer.combine(given["J"], noise=given["U"]),
        "P": sign_purity(given["J"]),
    }


def graddrop_activation(case: dict, given: Arrays) -> Arrays:
    balancer = GradDrop(leak=case["params"]["leak"])
    return {"out": balancer.combine_features(given["A"], given["G"], noise=given["U"])}


def gradvac(case: dict, given: Arrays) -> Arrays:
    balancer = GradVac(beta=case["params"]["beta"])
    outs, targets = [], []
    for jacobian, orders in zip(given["Js"], given["perms"], strict=True):
        outs.append(balancer.weights(jacobian @ jacobian.mT, orders=orders) @ jacobian)
        targets.append(balancer.targets.clone())
    return {"outs": torch.stack(outs), "rhos": torch.stack(targets)}


def sdmgrad(case: dict, given: Arrays) -> Arrays:
    """The authors' code: the balancer without its addition of 1e-4 under the root."""
    product = given["xi1"] @ given["xi2"].mT
    product = product / (product.diagonal() + 1e-4).sqrt().mean() ** 2
    params = case["params"]
    weights = descend_simplex(
        product,
        given["w0"],
        steps=params["niter"],
        step_size=params["lr_official"],
        momentum=params["momentum"],
        pull=params["lamda"] * product.mean(dim=-1),
    )
    direction = weights @ given["zeta"] + params["lamda"] * given["zeta"].mean(dim=0)
    return {"w": weights, "out": direction / (1 + params["lamda"])}


def moco(case: dict, given: Arrays) -> Arrays:
    params = case["params"]
    balancer = MoCo(
        beta=params["beta"], gamma=params["delta"], decay=params["sigma2"], rho=params["rho"]
    )
    outs, weights, tracked = [], [], []
    for jacobian in given["Gs"]:
        outs.append(balancer.combine(jacobian))
        weights.append(balancer.simplex_weights.clone())
        tracked.append(balancer.tracked.clone())
    return {
        "outs": torch.stack(outs),
        "lams": torch.stack(weights),
        "Ys": torch.stack(tracked),
    }


def modo(case: dict, given: Arrays) -> Arrays:
    balancer = MoDo(gamma=case["params"]["gamma"], rho=case["params"]["rho"])
    balancer.setup(len(given["lam0"]))
    balancer.simplex_weights.copy_(given["lam0"])
    weights = balancer.weights(given["G1"] @ given["G2"].mT)
    return {"lam": weights, "out": weights @ given["G3"]}


def krum(case: dict, given: Arrays) -> Arrays:
    params = case["params"]
    balancer = Krum(num_outliers=params["n_byzantine"], num_selected=params["n_selected"])
    jacobian = given["J"]
    return {"out": balancer.combine(jacobian), "scores": balancer.scores(jacobian @ jacobian.mT)}


def trimmed_mean(case: dict, given: Arrays) -> Arrays:
    return {"out": TrimmedMean(trim=case["params"]["trim_number"]).combine(given["J"])}


RUNNERS: dict[str, Runner] = {
    "aligned_mtl": aligned_mtl,
    "cagrad": cagrad,
    "config": config,
    "dualproj": _dual_cone(DualProj),
    "fairgrad": fairgrad,
    "graddrop": graddrop,
    "graddrop_activation": graddrop_activation,
    "gradvac": gradvac,
    "imtl_g": imtl_g,
    "krum": krum,
    "mgda": mgda,
    "mgda_normalisation": mgda_normalisation,
    "mgda_two_task": mgda_two_task,
    "moco": moco,
    "modo": modo,
    "nash_mtl": nash_mtl,
    "pcgrad": pcgrad,
    "pcgrad_official_tf": pcgrad_official_tf,
    "sdmgrad": sdmgrad,
    "trimmed_mean": trimmed_mean,
    "upgrad": _dual_cone(UPGrad),
}

CASES = _cases()
needs_fixtures = pytest.mark.skipif(
    not CASES, reason="needs the reference fixtures: no folder ../shared/fixtures"
)


def _load(case: dict, part: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / case["file"]) as arrays:
        return {name: arrays[entry["key"]] for name, entry in case[part].items()}


@needs_fixtures
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_case(case):
    given = {name: torch.from_numpy(array) for name, array in _load(case, "inputs").items()}
    found = RUNNERS[case["method"]](case, given)
    assert all(bool(array.isfinite().all()) for array in found.values())
    reference = _load(case, "outputs")
    for name, entry in case["outputs"].items():
        if entry["canonical"]:
            np.testing.assert_allclose(
                found[name].numpy(), reference[name], rtol=entry["rtol"], atol=entry["atol"]
            )


@needs_fixtures
def test_every_method_with_canonical_results_has_a_runner():
    assert {case["method"] for case in CASES} == set(RUNNERS)


@needs_fixtures
@pytest.mark.parametrize("iterations", [5, 20, 1000])
def test_frank_wolfe_makes_the_steps_of_the_papers_algorithm(iterations):
    compared = 0
    for case in CASES:
        name = f"alpha__fw_alg2_k{iterations}"
        if case["method"] != "mgda" or "regular" not in case["tags"]:
            continue
        entry = case["outputs"][name]
        jacobian = torch.from_numpy(_load(case, "inputs")["J"])
        found = min_norm_frank_wolfe(
            jacobian @ jacobian.mT, max_iterations=iterations, tolerance=1e-10
        )
        np.testing.assert_allclose(
            found.weights.numpy(),
            _load(case, "outputs")[name],
            rtol=entry["rtol"],
            atol=entry["atol"],
        )
        compared += 1
    assert compared > 10
