"""What the tasks are and how their data arrives: problems, loaders, tables and data sets."""

from polytask.problems.digits import digits, digits13
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
from polytask.problems.uci121 import uci121

__all__ = [
    "Batch",
    "BatchLoader",
    "DatasetSource",
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
    "conflicting",
    "diabetes",
    "digits",
    "digits13",
    "grouped_split",
    "linnerud",
    "load_source",
    "planted_assignment",
    "planted_groups",
    "read_table",
    "related_regression",
    "separate_shapes",
    "stratified_split",
    "uci121",
]
