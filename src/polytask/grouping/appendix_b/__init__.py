"""The module of STG-MTL's appendix B: its two listings run as written, on top of Polytask.

For readers of the paper (https://arxiv.org/abs/2307.03374). Everything here is a thin layer:
batches, steps, checkpoints and random states are ``polytask.training``'s, clustering and
memberships are ``polytask.grouping``'s. New code should use those; names that differ are

=========================== =========================================================
here                        in the rest of the package
=========================== =========================================================
``BaseDataModule``          ``polytask.problems.Problem``
``BaseModel``               ``polytask.architectures.Architecture`` (or ``CustomArchitecture``)
``Trainer(..., args)``      ``polytask.training.Trainer(..., settings)``
``Trainer.task_weights``    ``polytask.balancers.FixedWeights``
``DataMapRecorder``         ``polytask.grouping.DataMapRecorder``, an observer of training
``DatamapTaskClustering``   ``polytask.grouping.cluster`` and the grouper ``STG``
``fuzziness_index``         ``fuzzifier``
=========================== =========================================================

``Trainer`` and ``DataMapRecorder`` are not the classes of the same name elsewhere in the package;
import them from this module. ``_intialize_metrics_generator`` is spelled as in the paper.

Differences from the authors' code: epochs count from 1 (its epoch 1 is our epoch 2); the default
fuzzifier is the paper's 2 (1.07 there); the ensemble averages probabilities, as eq. 4 is read here
(logits there); each split is read into memory once, so a random transform is drawn once per image.

A new set of tasks takes two steps: derive from ``BaseModel`` and from ``BaseDataModule``.
"""

from polytask.grouping.appendix_b.clusters import (
    ClusteringType,
    DatamapTaskClustering,
    FuzzyKMeans,
)
from polytask.grouping.appendix_b.data import ArrayDataset, BaseDataModule, BaseDataset
from polytask.grouping.appendix_b.images import C10DataModule, C100DataModule, CelebADataModule
from polytask.grouping.appendix_b.models import (
    BaseMetrics,
    BaseModel,
    BinaryMetrics,
    BinaryModel,
    C10Model,
    C100Model,
    CelebAModel,
)
from polytask.grouping.appendix_b.training import DataMapRecorder, Trainer

__all__ = [
    "ArrayDataset",
    "BaseDataModule",
    "BaseDataset",
    "BaseMetrics",
    "BaseModel",
    "BinaryMetrics",
    "BinaryModel",
    "C10DataModule",
    "C10Model",
    "C100DataModule",
    "C100Model",
    "CelebADataModule",
    "CelebAModel",
    "ClusteringType",
    "DataMapRecorder",
    "DatamapTaskClustering",
    "FuzzyKMeans",
    "Trainer",
]
