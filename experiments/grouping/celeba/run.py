"""CelebA's 40 attributes grouped by their labels alone: STG-MTL's set G4 without its images.

    python -m experiments.grouping.celeba.run

Correlations of the attributes over the official training images, the groups that they lead to, and
what that costs. Networks are not trained: the images are not public in a form that can be kept
here. With a folder that has them, ``polytask.grouping.appendix_b.CelebADataModule`` reads both.
"""

from __future__ import annotations

import lzma
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from experiments.common import DATA, BaseSettings, Report, experiment
from experiments.showing import canvas, table

from polytask.grouping import LabelCorrelation
from polytask.problems import Problem
from polytask.problems.splits import Split
from polytask.tasks import Binary, Task

#: The official training and validation images.
TRAIN, VALIDATION = 162_770, 182_637


@dataclass(frozen=True)
class Settings(BaseSettings):
    """Of the experiment."""

    groups: tuple[int, ...] = (2, 3, 5, 8)
    rows: int = TRAIN
    data: Path = DATA


def attributes(folder: Path, rows: int) -> Problem:
    """The attributes as tasks; the inputs are empty, since nothing is learned from them."""
    packed = folder / "celeba_attributes"
    names = (packed / "attributes.txt").read_text(encoding="utf-8").split()
    with lzma.open(packed / "list_attr_celeba.npy.xz") as file:
        bits = np.load(file, allow_pickle=False)
    labels = torch.from_numpy(np.unpackbits(bits, axis=1)[:, : len(names)].astype(np.int64))
    tasks = [Task(name, Binary(("no", "yes"))) for name in names]

    def split(index: slice) -> Split:
        part = labels[index]
        targets = {task.name: part[:, i] for i, task in enumerate(tasks)}
        return Split(torch.zeros(len(part), 1), targets, tasks)

    return Problem(
        name="celeba",
        train=split(slice(0, rows)),
        validation=split(slice(TRAIN, VALIDATION)),
        test=split(slice(VALIDATION, None)),
    )


def report(settings: Settings) -> Report:
    problem = attributes(settings.data, settings.rows)
    started = time.process_time()
    affinity = LabelCorrelation().affinity(problem)
    seconds = time.process_time() - started
    found = {m: LabelCorrelation().find(problem, num_groups=m) for m in settings.groups}
    rows = [
        (m, j, ", ".join(group)) for m, one in found.items() for j, group in enumerate(one.groups)
    ]
    text = (
        f"Correlations of {len(problem.tasks)} attributes over {settings.rows} images:"
        f" {seconds:.1f} processor seconds.\n\n" + table(("groups", "group", "attributes"), rows)
    )
    assert affinity.matrix is not None
    figure, axes = canvas(width=8.5, height=8.0)
    order = np.argsort(found[settings.groups[-1]].assignment, kind="stable")
    names = [problem.tasks[i].name for i in order]
    shown = axes[0, 0].imshow(affinity.matrix.numpy()[np.ix_(order, order)], cmap="Blues", vmin=0)
    axes[0, 0].set_xticks(range(len(names)), names, fontsize=6, rotation=90)
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=6)
    figure.colorbar(shown, ax=axes[0, 0], shrink=0.7, label="|correlation| of labels")
    groups = {str(m): {"groups": one.groups, "score": one.score} for m, one in found.items()}
    results = {"seconds": seconds, "groupings": groups}
    return Report(results, text, {"figure.png": figure, "table.md": text})


main = experiment(Settings, report, smoke={"rows": 2000, "groups": (2,)})


if __name__ == "__main__":
    main()
