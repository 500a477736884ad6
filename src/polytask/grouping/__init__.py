"""Which tasks belong together."""

from polytask.grouping.data_maps import DataMapRecorder

__all__ = ["DataMapRecorder"]
