"""What every test has: few threads, fixed seeds, and the shared data where a machine has it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# Where the tests decide about a change (make test), the same examples are drawn every time.
settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

# As many threads as the caller asks for, else one: several processes test at the same time.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

SEED = int(os.environ.get("POLYTASK_TEST_SEED", "0"))


@pytest.fixture(autouse=True)
def fixed_seeds():
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the checkout; the test is skipped where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the shared data: no folder ../shared beside the checkout")
    return folder
