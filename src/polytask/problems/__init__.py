"""The tasks and their rows: problems, the splits that hold them, and the batches they come in."""

from polytask.problems.batch import Batch
from polytask.problems.loaders import BatchLoader, RowStream
from polytask.problems.problem import Problem
from polytask.problems.source import FixedSource, Source
from polytask.problems.splits import AnySplit, SeparateSplit, Split
from polytask.problems.splitting import SplitPlan, grouped_split, stratified_split
from polytask.problems.table_batch import TableBatch, TableShape
from polytask.problems.table_info import TableInfo
from polytask.problems.table_stream import TableBatchSplit, TableBatchStream

__all__ = [
    "AnySplit",
    "Batch",
    "BatchLoader",
    "FixedSource",
    "Problem",
    "RowStream",
    "SeparateSplit",
    "Source",
    "Split",
    "SplitPlan",
    "TableBatch",
    "TableBatchSplit",
    "TableBatchStream",
    "TableInfo",
    "TableShape",
    "grouped_split",
    "stratified_split",
]
