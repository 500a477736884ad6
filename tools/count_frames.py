"""How long is a training step? Functions of Polytask that one step enters, and how deep they nest.

    python tools/count_frames.py                      # the three methods that have a stated goal
    python tools/count_frames.py --tree PCGrad        # who calls whom
    python tools/count_frames.py MGDA UPGrad GradDrop

The step is ``Trainer.train_step`` on three regressions over one table, with an MLP of two layers of
32 units. A reader follows functions, so comprehensions are not counted, and neither is the work
that a solver repeats until it has converged: of the calls that one function of
``polytask.solvers`` makes to another, the first counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

INLINE = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
METHODS = ("Equal", "PCGrad", "CAGrad")


@dataclass
class Call:
    """A function that was entered, and the functions of ours that it entered itself."""

    name: str
    package: str
    inner: list[Call] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Functions entered, this one included."""
        return 1 + sum(call.frames for call in self.inner)

    @property
    def depth(self) -> int:
        """Functions on the longest way down, this one included."""
        return 1 + max((call.depth for call in self.inner), default=0)

    def lines(self, level: int = 0) -> list[str]:
        """One line per function, indented by its depth."""
        own = f"{level + 1:3d} {'  ' * level}{self.package}: {self.name}"
        return [own, *(line for call in self.inner for line in call.lines(level + 1))]


def record(step: Callable[[], object], root: Path) -> Call:
    """Run a step and note every function entered whose file lies under ``root``."""
    whole = Call("step", "")
    stack: list[tuple[FrameType, Call]] = []
    hidden: set[FrameType] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(root)):
            if code.co_name in INLINE or frame.f_back in hidden:
                hidden.update({frame} if frame.f_back in hidden else ())
                return
            package = Path(code.co_filename).relative_to(root).with_suffix("").as_posix()
            call = Call(code.co_qualname, package)
            above = stack[-1][1] if stack else whole
            if _repeats(above, call):
                hidden.add(frame)
                return
            above.inner.append(call)
            stack.append((frame, call))
        elif event == "return":
            hidden.discard(frame)
            if stack and stack[-1][0] is frame:
                stack.pop()

    sys.setprofile(profile)
    try:
        step()
    finally:
        sys.setprofile(None)
    return whole


def _repeats(above: Call, call: Call) -> bool:
    """Whether a solver calls again what it has called before."""
    both = above.package.startswith("solvers/") and call.package.startswith("solvers/")
    return both and any(other.name == call.name for other in above.inner)


def training_step(method: str) -> Callable[[], object]:
    """One step of a warmed-up trainer under a balancer of ``polytask.balancers``."""
    import numpy as np

    from polytask import HardSharing, Problem, Trainer, balancers
    from polytask.encoders import MLP
    from polytask.tasks import Regression
    from polytask.training import TrainingSettings

    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(256, 8))
    targets = {f"t{task}": inputs @ generator.normal(size=8) for task in range(3)}
    problem = Problem.from_arrays(inputs, targets, {name: Regression() for name in targets})
    encoder = MLP(input_size=8, widths=(32, 32))
    trainer = Trainer(
        problem,
        HardSharing(encoder=encoder, tasks=problem.tasks),
        balancer=getattr(balancers, method).example(),
        settings=TrainingSettings(batch_size=32, epochs=10**6, device="cpu"),
    )
    trainer.train_step()
    trainer.train_step()
    return trainer.train_step


def count(method: str) -> Call:
    """The functions that one step under a balancer enters."""
    import polytask

    step = training_step(method)
    return record(step, Path(polytask.__file__).resolve().parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("methods", nargs="*", help="names of balancers that need no arguments")
    parser.add_argument("--tree", action="store_true", help="print the functions themselves")
    options = parser.parse_args()
    for method in options.methods or METHODS:
        whole = count(method)
        print(f"{method}: {whole.frames - 1} functions to a depth of {whole.depth - 1}")
        if options.tree:
            print("\n".join(line for call in whole.inner for line in call.lines()))


if __name__ == "__main__":
    main()
