"""Ready-made problems and generators, one file each."""

from polytask.datasets.answers import with_answers
from polytask.datasets.attribute_grid import AttributeGrid, bilinear_grid, digits_grid
from polytask.datasets.digits import digits, digits13
from polytask.datasets.eight_tasks import EightSizes, eight_tasks
from polytask.datasets.fdu_mtl import fdu_mtl
from polytask.datasets.forecast_windows import forecast_windows
from polytask.datasets.hyperspheres import hypersphere_embeddings, hyperspheres
from polytask.datasets.imputation import imputation
from polytask.datasets.planted import planted_assignment, planted_groups
from polytask.datasets.sklearn_sets import diabetes, linnerud
from polytask.datasets.source import DatasetSource, load_source
from polytask.datasets.synthetic import conflicting, related_regression, separate_shapes
from polytask.datasets.transposed_gp import transposed_gp, transposed_gp_embeddings
from polytask.datasets.uci121 import uci121

__all__ = [
    "AttributeGrid",
    "DatasetSource",
    "EightSizes",
    "bilinear_grid",
    "conflicting",
    "diabetes",
    "digits",
    "digits13",
    "digits_grid",
    "eight_tasks",
    "fdu_mtl",
    "forecast_windows",
    "hypersphere_embeddings",
    "hyperspheres",
    "imputation",
    "linnerud",
    "load_source",
    "planted_assignment",
    "planted_groups",
    "related_regression",
    "separate_shapes",
    "transposed_gp",
    "transposed_gp_embeddings",
    "uci121",
    "with_answers",
]
