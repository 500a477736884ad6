"""What does ``import polytask`` cost beyond ``import torch``, and how fast does ``polytask --help``
answer?

    python benchmarks/import_time.py [--rounds 7] [--out benchmarks/import_time.json]

Goals: at most 0.2 s beyond torch; ``--help`` does not import torch.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import timing

NOUNS = "import torch, polytask; polytask.Trainer, polytask.Problem, polytask.HardSharing"
HELP = "import sys; sys.argv = ['polytask', '--help']; from polytask.cli.main import main; main()"
PROGRAMS = {
    "import torch": "import torch",
    "import polytask": "import polytask",
    "import torch, polytask and its nouns": NOUNS,
    "polytask --help": HELP,
}


def main() -> None:
    options = timing.parser(__doc__.splitlines()[0], rounds=7).parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for number in range(options.rounds + 1):
        for name, program in PROGRAMS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
            if number:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:<40} {value:.2f} s")
    added = medians["import torch, polytask and its nouns"] - medians["import torch"]
    print(f"polytask adds {added:.2f} s to import torch (goal <= 0.20)")
    if options.out:
        timing.write(options.out, {"median_seconds": medians, "added_seconds": added})


if __name__ == "__main__":
    main()
