"""A user's files and frames: read, understood column by column, and made into problems."""

from polytask.tables.from_tables import from_tables
from polytask.tables.inspection import Inspection, inspect, inspect_source
from polytask.tables.preprocessing import fit_table, transform_table
from polytask.tables.reading import read_table
from polytask.tables.sources import TableSource, TablesSource
from polytask.tables.targets import Target

__all__ = [
    "Inspection",
    "TableSource",
    "TablesSource",
    "Target",
    "fit_table",
    "from_tables",
    "inspect",
    "inspect_source",
    "read_table",
    "transform_table",
]
