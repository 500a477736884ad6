"""How much memory does the Traveling Observer Model take with a thousand inputs and outputs?

    python benchmarks/universal/tom_memory.py [--out benchmarks/universal/tom_memory.json]

The CIFAR setting of the paper: 1,024 grey pixels are read and predicted, batch 64, 128 hidden
units, 3 encoder, core and decoder layers, Adam. Goal: training within 8 GiB. Every contestant is a
process of its own that takes a few steps; its peak is the largest resident set size of the process,
libraries included ("import" is what they alone take). "per cell" computes the FiLM maps for every
row and variable, as the equations read; the others are the library's model, with different numbers
of variables at a time. At batch 64 the blocks that the allocator keeps hide what chunks save, so
the last four have 512 rows. Chunks are computed twice in training.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import timing

PIXELS, BATCH, ROWS = 1024, 64, 512
GOAL_GIB = 8.0
#: Name to what is done, with how many rows, and the variables at a time (encoder, decoder).
CONTESTANTS: dict[str, tuple[str, int, int | None, int | None]] = {
    "import": ("import", 0, None, None),
    "train, per cell": ("per cell", BATCH, None, None),
    "train, no chunks": ("train", BATCH, None, None),
    "train, decoder_chunk=64": ("train", BATCH, None, 64),
    "train, both chunks 64": ("train", BATCH, 64, 64),
    f"train {ROWS} rows, no chunks": ("train", ROWS, None, None),
    f"train {ROWS} rows, both chunks 64": ("train", ROWS, 64, 64),
    f"predict {ROWS} rows, no chunks": ("predict", ROWS, None, None),
    f"predict {ROWS} rows, both chunks 64": ("predict", ROWS, 64, 64),
}


def per_cell(model: object, inputs: object) -> object:
    """The model's outputs with maps ``[B, 1024, M]`` instead of ``[1024, M]``."""
    rows, pixels = inputs.shape
    places = model.table.weight.expand(rows, -1, -1)
    hidden = model.reader(inputs.unsqueeze(-1), places)
    for block in model.encoder_blocks:
        hidden = block(hidden, places)
    hidden = model.core(hidden.sum(1)).unsqueeze(1).expand(-1, pixels, -1)
    for block in model.decoder_blocks:
        hidden = block(hidden, places)
    return model.readout(hidden, places).squeeze(-1)


def measure(
    work: str, rows: int, encoder_chunk: int | None, decoder_chunk: int | None, steps: int
) -> None:
    """Do the work of one contestant and print what it took."""
    import torch

    from polytask.architectures.variables.traveling_observer import TravelingObserver
    from polytask.tasks import Regression, Task

    torch.manual_seed(0)
    seconds = []
    if work != "import":
        model = TravelingObserver(
            tasks=[Task("pixels", Regression(size=PIXELS))],
            columns=PIXELS,
            same_variables=True,
            encoder_chunk=encoder_chunk,
            decoder_chunk=decoder_chunk,
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        inputs = torch.rand(rows, PIXELS)
        for _ in range(steps):
            started = time.process_time()
            if work == "predict":
                with torch.no_grad():
                    model.eval()(inputs)
            else:
                found = per_cell(model, inputs) if work == "per cell" else model(inputs)["pixels"]
                optimizer.zero_grad()
                torch.nn.functional.binary_cross_entropy_with_logits(found, inputs).backward()
                optimizer.step()
            seconds.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"peak_gib": peak, "seconds": min(seconds, default=0.0)}))


def in_fresh_process(name: str, steps: int) -> dict[str, float]:
    """What a contestant takes in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--only", name]
    done = subprocess.run(
        [*command, "--rounds", str(steps)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Every contestant in turn, or one of them in this process."""
    parser = timing.parser(__doc__.splitlines()[0], rounds=3)
    parser.add_argument("--only", choices=list(CONTESTANTS), help="one contestant, in this process")
    options = parser.parse_args()
    timing.prepare(options.threads)
    if options.only:
        measure(*CONTESTANTS[options.only], options.rounds)
        return
    found = {name: in_fresh_process(name, options.rounds) for name in CONTESTANTS}
    for name, row in found.items():
        print(f"  {name:<38} {row['peak_gib']:6.2f} GiB   {row['seconds']:6.2f} s per step")
    goal = ("train, no chunks", "train, decoder_chunk=64", "train, both chunks 64")
    record = {
        "setting": {"inputs": PIXELS, "outputs": PIXELS, "batch": BATCH, "hidden": 128},
        "goal_gib": GOAL_GIB,
        "goal_met": max(found[name]["peak_gib"] for name in goal) <= GOAL_GIB,
        "contestants": found,
    }
    print(f"goal: at most {GOAL_GIB} GiB in training; met: {record['goal_met']}")
    if options.out:
        timing.write(options.out, record)


if __name__ == "__main__":
    main()
