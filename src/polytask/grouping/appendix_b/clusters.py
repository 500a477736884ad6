"""The clustering classes of appendix B (figure 13).

Shape legend: T tasks, N rows, E recorded epochs, P numbers per point, m clusters.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from polytask.encoders.base import check_positive
from polytask.grouping.clustering.clusters import ClusterMethod, cluster
from polytask.grouping.clustering.fuzzy import fuzzy_c_means, memberships
from polytask.grouping.clustering.kmeans import k_means

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ClusteringType", "DatamapTaskClustering", "FuzzyKMeans"]


class ClusteringType(enum.Enum):
    """How ``DatamapTaskClustering`` clusters (the authors' code writes TASK_BASED_ before the last
    three).
    """

    POINT_BASED = 0
    FUZZY_ITERATIVE = 1
    FUZZY_FROM_KMEANS = 2
    KMEANS = 3


class FuzzyKMeans:
    """Fuzzy c-means (Bezdek 1984) of points ``[n, P]``.

    Args:
        n_clusters: m.
        m: Fuzzifier F > 1.
        seed: Of the first centres.
    """

    def __init__(self, n_clusters: int, m: float = 2.0, *, seed: int = 0) -> None:
        self.n_clusters = n_clusters
        self.m = m
        self.seed = seed

    def fit(self, points: Tensor) -> FuzzyKMeans:
        """Find ``cluster_centers_`` ``[m, P]`` and memberships ``fmm_`` ``[n, m]``."""
        start = k_means(points.double(), self.n_clusters, seed=self.seed).centres
        found = fuzzy_c_means(points, start, fuzzifier=self.m)
        self.cluster_centers_, self.fmm_ = found.centres, found.memberships
        return self

    def compute_membership(self, points: Tensor, centers: Tensor) -> Tensor:
        """Memberships ``[n, m]`` in given centres (eq. 2)."""
        return memberships(points, centers, self.m)


class DatamapTaskClustering:
    """Clusters tasks by their data maps.

    Args:
        data_map: ``[T, E, N, 2]``, as ``Trainer.get_data_map`` returns it.
        n_clusters: m.
        clustering_type: How.
        task_names: For the figure; None numbers them.

    Raises:
        ValueError: A map of another shape, or an epoch without any mean or deviation (there is no
            sample deviation after one epoch).
    """

    def __init__(
        self,
        data_map: Tensor,
        n_clusters: int,
        clustering_type: ClusteringType = ClusteringType.FUZZY_FROM_KMEANS,
        task_names: Sequence[str] | None = None,
    ) -> None:
        if data_map.dim() != 4 or data_map.shape[-1] != 2:
            raise ValueError(f"`data_map` must be [T, E, N, 2], found {list(data_map.shape)}.")
        if bool(data_map.isnan().all(2).any()):
            raise ValueError(
                "`data_map` holds an epoch without means or deviations; record it after at least"
                " two epochs."
            )
        self._data_map = data_map.detach().cpu()
        self._n_clusters = check_positive("n_clusters", n_clusters)
        self._type = ClusteringType(clustering_type)
        self._names = tuple(task_names or (f"Task {i + 1}" for i in range(len(data_map))))
        self._membership: Tensor | None = None

    def cluster(self, fuzziness_index: float = 2.0, *, seed: int = 0) -> Tensor:
        """Memberships ``[T, m]`` (float64), rows sum to 1; a column is the ``task_weights`` of a
        specialised model.

        Args:
            fuzziness_index: F > 1: near 1 the memberships are nearly hard. 2 as in the paper's
                experiments; the authors' code has 1.07.
            seed: Of the first centres.
        """
        methods: dict[ClusteringType, ClusterMethod] = {
            ClusteringType.POINT_BASED: "votes",
            ClusteringType.FUZZY_ITERATIVE: "fuzzy",
            ClusteringType.FUZZY_FROM_KMEANS: "memberships",
            ClusteringType.KMEANS: "hard",
        }
        found = cluster(
            self._data_map.flatten(1),
            self._n_clusters,
            method=methods[self._type],
            fuzzifier=fuzziness_index,
            seed=seed,
        )
        self._membership = found.memberships
        return found.memberships

    def get_task_membership(self) -> Tensor:
        """What ``cluster`` found ``[T, m]``.

        Raises:
            ValueError: ``cluster`` was not called.
        """
        if self._membership is None:
            raise ValueError("There are no memberships yet; call `cluster()` first.")
        return self._membership

    def plot_membership(
        self,
        transpose: bool = False,
        title: str | None = None,
        save_path: Path | str | None = None,
        t_membership: Tensor | None = None,
    ) -> Figure:
        """The memberships as a table of shades and numbers, as figures 4 and 5 of the paper.

        Args:
            transpose: Tasks as columns.
            title: Above the figure; None says how many clusters there are.
            save_path: A file to write as well; its ending chooses the format.
            t_membership: Other memberships ``[T, m]`` to draw.
        """
        from matplotlib.figure import Figure

        shares = (self.get_task_membership() if t_membership is None else t_membership).numpy()
        clusters = [str(j) for j in range(shares.shape[1])]
        rows, columns = (clusters, self._names) if transpose else (self._names, clusters)
        cells = shares.T if transpose else shares
        width, height = 1.6 + 0.55 * len(columns), 1.2 + 0.3 * len(rows)
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(cells, vmin=0, vmax=1, aspect="auto", cmap="Blues")
        axes.set_xticks(range(len(columns)), columns, rotation=45 if transpose else 0)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_title(title or f"Memberships in {len(clusters)} clusters")
        for (row, column), share in np.ndenumerate(cells):
            shade = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=shade)
        if save_path is not None:
            figure.savefig(save_path, dpi=200)
        return figure
