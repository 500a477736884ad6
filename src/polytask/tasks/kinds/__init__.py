"""What a target is: one file per kind."""

from polytask.tasks.kinds.base import IGNORE_INDEX, Kind
from polytask.tasks.kinds.binary import Binary
from polytask.tasks.kinds.depth import Depth
from polytask.tasks.kinds.multiclass import Multiclass
from polytask.tasks.kinds.normals import Normals
from polytask.tasks.kinds.regression import Regression
from polytask.tasks.kinds.segmentation import Segmentation
from polytask.tasks.kinds.token_sequence import TokenSequence

__all__ = [
    "IGNORE_INDEX",
    "Binary",
    "Depth",
    "Kind",
    "Multiclass",
    "Normals",
    "Regression",
    "Segmentation",
    "TokenSequence",
]
