"""Reader of the reference fixtures of layers: inputs, parameters, outputs and gradients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerCase:
    """One case: ``parameters`` under the reference's names, ``gradients`` of 0.5 sum(outputs^2)."""

    name: str
    settings: dict[str, object]
    inputs: dict[str, Tensor]
    parameters: dict[str, Tensor]
    expected: dict[str, tuple[Tensor, float, float]]

    def check(self, found: dict[str, Tensor]) -> None:
        """Compare outputs ("out") and gradients ("g.x", "gp.weight") with all that the case has."""
        assert set(found) == set(self.expected)
        for key, (value, rtol, atol) in self.expected.items():
            torch.testing.assert_close(
                found[key].reshape(value.shape),
                value,
                rtol=rtol,
                atol=atol,
                msg=lambda text, key=key: f"{self.name} {key}: {text}",
            )


def layer_cases(shared: Path, method: str) -> Iterator[LayerCase]:
    """The cases of a method among the layers."""
    index = json.loads((shared / "fixtures" / "index.json").read_text())
    chosen = [c for c in index["cases"] if (c["category"], c["method"]) == ("layers", method)]
    assert chosen
    for case in chosen:
        with np.load(shared / "fixtures" / case["file"], allow_pickle=False) as arrays:
            given = {k: torch.from_numpy(arrays[e["key"]]) for k, e in case["inputs"].items()}
            expected = {
                k: (torch.from_numpy(arrays[e["key"]]), e["rtol"], e["atol"])
                for k, e in case["outputs"].items()
                if e["canonical"]
            }
        yield LayerCase(
            name=case["id"],
            settings=case["params"],
            inputs={k: v for k, v in given.items() if not k.startswith("p.")},
            parameters={k[2:]: v for k, v in given.items() if k.startswith("p.")},
            expected=expected,
        )
