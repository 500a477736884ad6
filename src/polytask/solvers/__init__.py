"""Pure mathematics of the balancers: batched functions of Gramians, exact and free of scales.

Every function takes leading batch dimensions, works in float64 whatever it is given, and returns
the data type and the device of its input. Those that iterate return a ``Solution``: the weights and
a ``SolverReport``.
"""

from polytask.solvers.arrays import Solution, SolverReport
from polytask.solvers.bargaining import bargain
from polytask.solvers.conflict_averse import conflict_averse
from polytask.solvers.dual_cone import project_dual_cone
from polytask.solvers.min_norm import min_norm, min_norm_frank_wolfe, min_norm_two
from polytask.solvers.signs import drop_signs, sign_purity
from polytask.solvers.simplex import descend_simplex, project_simplex
from polytask.solvers.spectral import align_components, conflict_free, equal_projections
from polytask.solvers.surgery import Vaccination, project_conflicts, random_orders, vaccinate

__all__ = [
    "Solution",
    "SolverReport",
    "Vaccination",
    "align_components",
    "bargain",
    "conflict_averse",
    "conflict_free",
    "descend_simplex",
    "drop_signs",
    "equal_projections",
    "min_norm",
    "min_norm_frank_wolfe",
    "min_norm_two",
    "project_conflicts",
    "project_dual_cone",
    "project_simplex",
    "random_orders",
    "sign_purity",
    "vaccinate",
]
