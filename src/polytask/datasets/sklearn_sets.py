"""Small tables that come with scikit-learn and have more than one sensible target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polytask.problems.problem import Problem
from polytask.tables.sources import TableSource

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["diabetes", "linnerud"]


def linnerud(*, seed: int = 0) -> Problem:
    """Three body measures of 20 men from three exercises: to try things, too small for a verdict.

    Args:
        seed: Of the split.

    References:
        Tenenhaus. La regression PLS: theorie et pratique. Technip, 1998 (data of A. C. Linnerud).
    """
    from sklearn.datasets import load_linnerud

    loaded = load_linnerud(as_frame=True)
    frame: pd.DataFrame = loaded.frame
    return TableSource(
        frame, [f"{name}:regression" for name in loaded.target_names], name="linnerud"
    ).problem(seed)


def diabetes(*, seed: int = 0) -> Problem:
    """Progression of diabetes and six blood values, from age, sex, body mass, blood pressure.

    442 patients. The blood values are targets beside the progression: they are measured at the same
    time as the four inputs and are related to it and to each other.

    Args:
        seed: Of the split, stratified by the bins of all targets.

    References:
        Efron, Hastie, Johnstone, Tibshirani. Least angle regression. Annals of Statistics 32, 2004.
    """
    from sklearn.datasets import load_diabetes

    blood = {
        "s1": "total cholesterol",
        "s2": "low-density lipoproteins",
        "s3": "high-density lipoproteins",
        "s4": "cholesterol ratio",
        "s5": "log triglycerides",
        "s6": "blood sugar",
    }
    names = {**blood, "target": "progression", "bmi": "body mass index", "bp": "blood pressure"}
    frame: pd.DataFrame = load_diabetes(as_frame=True, scaled=False).frame.rename(columns=names)
    targets = [f"{name}:regression" for name in ("progression", *blood.values())]
    return TableSource(frame, targets, name="diabetes", categorical=["sex"]).problem(seed)
