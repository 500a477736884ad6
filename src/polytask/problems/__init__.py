"""What the tasks are and how their data arrives: problems, loaders, tables and data sets."""

from polytask.problems.answers import with_answers
from polytask.problems.attribute_grid import AttributeGrid, bilinear_grid, digits_grid
from polytask.problems.completion import completion
from polytask.problems.digits import digits, digits13
from polytask.problems.eight_tasks import EightSizes, eight_tasks
from polytask.problems.fdu_mtl import fdu_mtl
from polytask.problems.hyperspheres import hypersphere_embeddings, hyperspheres
from polytask.problems.loaders import BatchLoader, RowStream
from polytask.problems.packed import PackedSplit, PackedStream
from polytask.problems.planted import planted_assignment, planted_groups
from polytask.problems.problem import Batch, Problem, SeparateSplit, Split
from polytask.problems.reading import read_table
from polytask.problems.sklearn_sets import diabetes, linnerud
from polytask.problems.sources import DatasetSource, FixedSource, Source, load_source
from polytask.problems.splitting import SplitPlan, grouped_split, stratified_split
from polytask.problems.synthetic import conflicting, related_regression, separate_shapes
from polytask.problems.table_sources import TableSource, TablesSource
from polytask.problems.tables import TableInfo
from polytask.problems.targets import Target
from polytask.problems.transposed_gp import transposed_gp, transposed_gp_embeddings
from polytask.problems.uci121 import uci121
from polytask.problems.windows import windows

__all__ = [
    "AttributeGrid",
    "Batch",
    "BatchLoader",
    "DatasetSource",
    "EightSizes",
    "FixedSource",
    "PackedSplit",
    "PackedStream",
    "Problem",
    "RowStream",
    "SeparateSplit",
    "Source",
    "Split",
    "SplitPlan",
    "TableInfo",
    "TableSource",
    "TablesSource",
    "Target",
    "bilinear_grid",
    "completion",
    "conflicting",
    "diabetes",
    "digits",
    "digits13",
    "digits_grid",
    "eight_tasks",
    "fdu_mtl",
    "grouped_split",
    "hypersphere_embeddings",
    "hyperspheres",
    "linnerud",
    "load_source",
    "planted_assignment",
    "planted_groups",
    "read_table",
    "related_regression",
    "separate_shapes",
    "stratified_split",
    "transposed_gp",
    "transposed_gp_embeddings",
    "uci121",
    "windows",
    "with_answers",
]
