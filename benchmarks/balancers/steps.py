"""CPU time of a training step per balancer, as a ratio to equal weighting, beside the peers.

All contestants of a cell (trunk, number of tasks) are interleaved round by round in one process,
each on its own copy of one initial model; the figure is the median over the rounds of the process
CPU time of a step (all threads), which a busy machine disturbs less than wall time. A step is
forward, losses, backward by the method, and Adam. Peak memory is the growth of the resident set's
high-water mark during one warmed-up step.

    python benchmarks/balancers/steps.py                     # ours only
    python benchmarks/balancers/steps.py --peers             # beside TorchJD (and LibMTL if there)
    python benchmarks/balancers/steps.py --cells mlp-40 conv-10 --only features --out out.json

Peers are used only if they can be imported: `pip install torchjd==0.18.0 LibMTL==1.1.5`, or put a
folder that holds them on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Busy-waiting at OpenMP barriers would be billed as work; on a shared machine it is most of it.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

from polytask.balancers import MGDA, CAGrad, Equal, GradientOptions, PCGrad, UPGrad
from polytask.balancers.base import Balancer

CELLS = [f"{trunk}-{tasks}" for trunk in ("mlp", "conv") for tasks in (2, 10, 40, 100)]
HEAVY = {
    "mlp-40": r"^(equal|MGDA|UPGrad|TorchJD (MGDA|UPGrad, one)|LibMTL MGDA rep)",
    "mlp-100": r"^(equal|MGDA|UPGrad|TorchJD MGDA, (one|vmap)|LibMTL MGDA rep)",
    "conv-10": r"^(equal|MGDA|UPGrad|TorchJD (MGDA|UPGrad, one)|LibMTL MGDA)",
    "conv-40": r"^(equal|MGDA (trunk$|feat|last|samples)|TorchJD MGDA, one)",
    "conv-100": r"^(equal|MGDA (trunk$|feat|last|samples)|TorchJD MGDA, one)",
}
BASELINE = "equal, loop of heads"
Step = Callable[[], None]


class Block(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(fan_out)
        self.second = nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(fan_out)
        same = fan_in == fan_out and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(fan_in, fan_out, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.first_norm(self.first(inputs)))
        return torch.relu(self.second_norm(self.second(hidden)) + self.skip(inputs))


class ConvTrunk(nn.Module):
    """The layout of ResNet-18 (2-2-2-2 blocks) for 32 x 32 images, widths 16 to 128."""

    output_size = 128

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64, 128)
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        blocks, fan_in = [], widths[0]
        for stage, width in enumerate(widths):
            blocks += [Block(fan_in, width, 2 if stage else 1), Block(width, width, 1)]
            fan_in = width
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(self.stem(images)).mean((2, 3))

    def last(self) -> Iterator[nn.Parameter]:
        return self.blocks[-1].second.parameters()


class MLPTrunk(nn.Sequential):
    output_size = 512

    def __init__(self) -> None:
        sizes = (128, 512, 512, 512)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        super().__init__(*layers)

    def last(self) -> Iterator[nn.Parameter]:
        return self[-2].parameters()


class Contest:
    """One trunk and number of tasks: data, fresh models, losses."""

    def __init__(self, trunk: str, tasks: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (256, 128) if trunk == "mlp" else (64, 3, 32, 32)
        self.make = MLPTrunk if trunk == "mlp" else ConvTrunk
        self.tasks = tasks
        self.inputs = torch.randn(shape, generator=generator)
        self.targets = torch.randn(shape[0], tasks, generator=generator)

    def model(self, *, stacked: bool) -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(1)
        trunk = self.make()
        if stacked:
            return trunk, nn.Linear(trunk.output_size, self.tasks)
        return trunk, nn.ModuleList(nn.Linear(trunk.output_size, 1) for _ in range(self.tasks))

    def losses(self, heads: nn.Module, features: Tensor) -> list[Tensor]:
        targets = self.targets[: len(features)]
        return [
            nn.functional.mse_loss(head(features).squeeze(1), targets[:, task])
            for task, head in enumerate(heads)
        ]

    def block_losses(self, heads: nn.Module, features: Tensor) -> Tensor:
        return (heads(features) - self.targets[: len(features)]).square().mean(0)


def ours(contest: Contest, balancer: Balancer, *, stacked: bool = False) -> Step:
    trunk, heads = contest.model(stacked=stacked)
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-4)
    shared = list(trunk.last() if balancer.scope == "last" else trunk.parameters())

    def losses_of(inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = trunk(inputs)
        if stacked:
            return contest.block_losses(heads, features), features
        return torch.stack(contest.losses(heads, features)), features

    def partial_losses(fraction: float) -> tuple[Tensor, Tensor]:
        return losses_of(contest.inputs[: round(fraction * len(contest.inputs))])

    def step() -> None:
        losses, features = losses_of(contest.inputs)
        balancer.backward(losses, shared=shared, features=features, partial_losses=partial_losses)
        optimizer.step()
        optimizer.zero_grad()

    return step


def plain(contest: Contest) -> Step:
    trunk, heads = contest.model(stacked=False)
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-4)

    def step() -> None:
        torch.stack(contest.losses(heads, trunk(contest.inputs))).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_methods() -> dict[str, Callable[[Contest], Step]]:
    methods: dict[str, Callable[[Contest], Step]] = {
        BASELINE: plain,
        "equal, block of heads": lambda c: ours(c, Equal(), stacked=True),
    }
    for method in (MGDA, UPGrad, PCGrad, CAGrad):
        name = method.__name__
        methods[f"{name} trunk"] = lambda c, m=method: ours(c, m())
    for name, options in (
        ("features", GradientOptions(scope="features")),
        ("last", GradientOptions(scope="last")),
        ("samples=1/8", GradientOptions(samples=1 / 8)),
    ):
        methods[f"MGDA {name}"] = lambda c, o=options: ours(c, MGDA(gradients=o))
    methods["MGDA trunk, block of heads"] = lambda c: ours(c, MGDA(), stacked=True)
    methods["MGDA features, block of heads"] = lambda c: ours(
        c, MGDA(gradients=GradientOptions(scope="features")), stacked=True
    )
    return methods


def torchjd_methods() -> dict[str, Callable[[Contest], Step]]:
    from torchjd import aggregation
    from torchjd.autogram import Engine
    from torchjd.autojac import jac_to_grad, mtl_backward

    def jacobian(contest: Contest, name: str, chunk: int | None) -> Step:
        trunk, heads = contest.model(stacked=False)
        optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-4)
        aggregator = getattr(aggregation, name)(**({"c": 0.5} if name == "CAGrad" else {}))

        def step() -> None:
            features = trunk(contest.inputs)
            losses = contest.losses(heads, features)
            mtl_backward(losses, features=features, parallel_chunk_size=chunk)
            jac_to_grad(list(trunk.parameters()), aggregator)
            optimizer.step()
            optimizer.zero_grad()

        return step

    def gramian(contest: Contest, name: str) -> Step:
        trunk, heads = contest.model(stacked=False)
        optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-4)
        weighting = getattr(aggregation, name + "Weighting")()
        engine = Engine(trunk, batch_dim=None)

        def step() -> None:
            losses = torch.stack(contest.losses(heads, trunk(contest.inputs)))
            losses.backward(weighting(engine.compute_gramian(losses)))
            optimizer.step()
            optimizer.zero_grad()

        return step

    methods: dict[str, Callable[[Contest], Step]] = {}
    for name in ("MGDA", "UPGrad", "PCGrad", "CAGrad"):
        methods[f"TorchJD {name}, one by one"] = lambda c, n=name: jacobian(c, n, 1)
    for name in ("MGDA", "UPGrad"):
        methods[f"TorchJD {name}, vmap"] = lambda c, n=name: jacobian(c, n, None)
        methods[f"TorchJD {name}, autogram"] = lambda c, n=name: gramian(c, n)
    return methods


def libmtl_methods() -> dict[str, Callable[[Contest], Step]]:
    import contextlib
    import io
    import types

    # LibMTL imports a graph library that it does not declare and a download helper that torchvision
    # no longer has; no method needs either.
    for missing in ("torch_geometric", "torchvision", "torchvision.models"):
        sys.modules.setdefault(missing, types.ModuleType(missing))
    helper = types.ModuleType("torchvision.models.utils")
    helper.load_state_dict_from_url = None
    sys.modules.setdefault("torchvision.models.utils", helper)
    with contextlib.redirect_stdout(io.StringIO()):
        from LibMTL import weighting
        from LibMTL.architecture import HPS

    def build(contest: Contest, name: str, features: bool, options: dict[str, object]) -> Step:
        names = [f"t{task}" for task in range(contest.tasks)]
        method = getattr(weighting, name)
        width = contest.make.output_size
        heads = nn.ModuleDict({task: nn.Linear(width, 1) for task in names})

        class Network(HPS, method):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                super().__init__(names, contest.make, heads, features, False, torch.device("cpu"))
                self.init_param()

            def zero_grad_share_params(self) -> None:
                # It then writes to `.grad.data`; zero_grad() would have made that None.
                self.encoder.zero_grad(set_to_none=False)

        torch.manual_seed(1)
        network = Network()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

        def step() -> None:
            outputs = network(contest.inputs)
            losses = torch.stack(
                [
                    nn.functional.mse_loss(outputs[task].squeeze(1), contest.targets[:, index])
                    for index, task in enumerate(names)
                ]
            )
            optimizer.zero_grad(set_to_none=False)
            network.backward(losses, **options)
            optimizer.step()

        return step

    methods: dict[str, Callable[[Contest], Step]] = {}
    for label, name, features, options in (
        ("MGDA", "MGDA", False, {"mgda_gn": "none"}),
        ("MGDA rep_grad", "MGDA", True, {"mgda_gn": "none"}),
        ("PCGrad", "PCGrad", False, {}),
    ):
        methods[f"LibMTL {label}"] = lambda c, n=name, f=features, o=options: build(c, n, f, o)
    return methods


def peak_megabytes(step: Step) -> float | None:
    """Growth of the resident set's high-water mark during a step; None where it cannot be read."""
    reset = Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):
        step()
        return None
    reset.write_text("5")
    before = _status("VmRSS")
    step()
    return max(0.0, _status("VmHWM") - before)


def _status(key: str) -> float:
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{key}:\s+(\d+)", text)
    return float(found[1]) / 1024 if found else 0.0


def run_cell(
    cell: str, methods: dict[str, Callable[[Contest], Step]], *, seconds: float, rounds: int
) -> dict[str, dict[str, object]]:
    trunk, tasks = cell.split("-")
    contest = Contest(trunk, int(tasks))
    steps: dict[str, Step] = {}
    results: dict[str, dict[str, object]] = {}
    for name, build in methods.items():
        try:
            steps[name] = build(contest)
            started = time.perf_counter()
            steps[name]()
            cold = time.perf_counter() - started
            peak = peak_megabytes(steps[name]) if cold < 15 else None
            results[name] = {"peak_mb": peak, "cpu_ms": []}
        except Exception as error:
            steps.pop(name, None)
            results[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
    end = time.perf_counter() + seconds
    for _ in range(rounds):
        for name, step in steps.items():
            for _ in range(3 if name == BASELINE else 1):
                started = time.process_time()
                step()
                results[name]["cpu_ms"].append(1e3 * (time.process_time() - started))
        if time.perf_counter() > end:
            break
    base = statistics.median(results[BASELINE]["cpu_ms"])
    for result in results.values():
        if result.get("cpu_ms"):
            median = statistics.median(result["cpu_ms"])
            result |= {"rounds": len(result["cpu_ms"]), "cpu_ms": round(median, 2)}
            result["ratio"] = round(median / base, 3)
    return results


def table(cells: dict[str, dict[str, dict[str, object]]]) -> str:
    names = list(dict.fromkeys(name for results in cells.values() for name in results))
    lines = ["| method | " + " | ".join(cells) + " |", "|---|" + "---|" * len(cells)]
    for name in names:
        row = []
        for results in cells.values():
            result = results.get(name, {})
            if "ratio" in result:
                peak = result["peak_mb"]
                memory = "" if peak is None or peak < 20 else f" (+{peak:.0f} MB)"
                row.append(f"{result['ratio']:.2f}x{memory}")
            else:
                row.append("fails" if "error" in result else "-")
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("torchjd", "LibMTL"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", nargs="+", default=CELLS, metavar="TRUNK-TASKS")
    parser.add_argument("--peers", action="store_true", help="run the peers that can be imported")
    parser.add_argument("--only", default="", help="regular expression on contestants")
    parser.add_argument("--seconds", type=float, default=25, help="time for the rounds of a cell")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    methods = our_methods()
    if options.peers:
        for peer in (torchjd_methods, libmtl_methods):
            try:
                methods |= peer()
            except ImportError as error:
                print(f"{peer.__name__}: {error}", file=sys.stderr)
    cells = {}
    for cell in options.cells:
        # Where a step takes many seconds the solvers no longer show: one method stands for all.
        pattern = options.only or HEAVY.get(cell, "")
        wanted = {
            name: build
            for name, build in methods.items()
            if name == BASELINE or re.search(pattern, name)
        }
        cells[cell] = run_cell(cell, wanted, seconds=options.seconds, rounds=options.rounds)
        print(f"\n{cell}\n{table({cell: cells[cell]})}", flush=True)
    if options.out:
        write(options.out, cells, threads=options.threads)


def write(path: Path, cells: dict[str, dict[str, dict[str, object]]], *, threads: int) -> None:
    """Write the cells that were run; those that the file has from other runs stay in it."""
    record = json.loads(path.read_text()) if path.is_file() else {}
    for cell, results in cells.items():
        record[cell] = {
            "command": " ".join(["python", *sys.argv]),
            "date": time.strftime("%Y-%m-%d"),
            "threads": threads,
            "load": [round(load, 1) for load in os.getloadavg()],
            "versions": versions(),
            "results": results,
        }
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
