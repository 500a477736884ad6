"""Which tasks belong together: affinity -> search -> Grouping.

Every grouper finds a ``Grouping`` with ``find``; the parts work on their own.
"""

from polytask.grouping.affinity_grouper import AffinityGrouper
from polytask.grouping.base import Affinity, Grouper, GroupScores
from polytask.grouping.clustering.clusters import Clusters, cluster
from polytask.grouping.clustering.fuzzy import fuzzy_c_means, memberships
from polytask.grouping.clustering.kmeans import k_means
from polytask.grouping.clustering.num_groups import choose_num_groups
from polytask.grouping.clustering.votes import point_votes
from polytask.grouping.correlation import LabelCorrelation, PredictionCorrelation
from polytask.grouping.data_map import DataMap
from polytask.grouping.data_map_recorder import DataMapRecorder, record_data_map
from polytask.grouping.exhaustive import Exhaustive
from polytask.grouping.gain_models import (
    GainModel,
    MembershipRidge,
    PartnerRelevance,
    TaskMean,
)
from polytask.grouping.gradient_similarity import GradientSimilarity
from polytask.grouping.grouping import Grouping, GroupingCost
from polytask.grouping.hoa import ESA, HOA
from polytask.grouping.learner import Learner, Trained
from polytask.grouping.mtg_net import MTGNet, MTGNetwork
from polytask.grouping.random_groups import RandomGroups
from polytask.grouping.sampled_groups import SampledGroups
from polytask.grouping.scores import PairScores, TableScores
from polytask.grouping.search import (
    Choice,
    Selection,
    best_groups,
    find_groups,
    hoa_table,
    select_networks,
)
from polytask.grouping.stg import STG
from polytask.grouping.tag import TAG, TaskAffinity

__all__ = [
    "ESA",
    "HOA",
    "STG",
    "TAG",
    "Affinity",
    "AffinityGrouper",
    "Choice",
    "Clusters",
    "DataMap",
    "DataMapRecorder",
    "Exhaustive",
    "GainModel",
    "GradientSimilarity",
    "GroupScores",
    "Grouper",
    "Grouping",
    "GroupingCost",
    "LabelCorrelation",
    "Learner",
    "MTGNet",
    "MTGNetwork",
    "MembershipRidge",
    "PairScores",
    "PartnerRelevance",
    "PredictionCorrelation",
    "RandomGroups",
    "SampledGroups",
    "Selection",
    "TableScores",
    "TaskAffinity",
    "TaskMean",
    "Trained",
    "best_groups",
    "choose_num_groups",
    "cluster",
    "find_groups",
    "fuzzy_c_means",
    "hoa_table",
    "k_means",
    "memberships",
    "point_votes",
    "record_data_map",
    "select_networks",
]
