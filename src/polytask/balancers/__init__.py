"""How to weigh tasks: one file per method, in three families.

``base`` says what all balancers have in common, ``gradient_families`` what those that look at
gradients add, and ``GradientOptions`` where and how often they look.
"""

from __future__ import annotations

from polytask.balancers.aligned_mtl import AlignedMTL
from polytask.balancers.almo import AgnosticMinimax
from polytask.balancers.base import Balancer, LossBalancer
from polytask.balancers.cagrad import CAGrad
from polytask.balancers.combination import Combination
from polytask.balancers.config import ConFIG
from polytask.balancers.db_mtl import DBMTL
from polytask.balancers.dtp import DynamicTaskPrioritization, FocalLoss
from polytask.balancers.dualproj import DualProj
from polytask.balancers.dwa import DynamicWeightAverage
from polytask.balancers.equal import Equal
from polytask.balancers.excess_mtl import ExcessMTL
from polytask.balancers.fairgrad import FairGrad
from polytask.balancers.famo import FAMO
from polytask.balancers.fixed import FixedWeights
from polytask.balancers.geometric_mean import GeometricMean
from polytask.balancers.graddrop import GradDrop
from polytask.balancers.gradient_families import GramBalancer, JacobianBalancer
from polytask.balancers.gradient_options import GradientOptions
from polytask.balancers.gradnorm import GradNorm
from polytask.balancers.gradvac import GradVac
from polytask.balancers.highest_loss import HighestLoss
from polytask.balancers.imtl_g import IMTLG
from polytask.balancers.imtl_l import IMTLL
from polytask.balancers.krum import Krum
from polytask.balancers.mgda import MGDA
from polytask.balancers.moco import MoCo
from polytask.balancers.modo import MoDo
from polytask.balancers.nash_mtl import NashMTL
from polytask.balancers.pbi import BoundaryIntersection
from polytask.balancers.pcgrad import PCGrad
from polytask.balancers.rlw import RandomLossWeighting
from polytask.balancers.sdmgrad import SDMGrad
from polytask.balancers.stch import SmoothTchebycheff
from polytask.balancers.trimmed_mean import TrimmedMean
from polytask.balancers.uncertainty import UncertaintyWeighting
from polytask.balancers.upgrad import UPGrad

__all__ = [
    "DBMTL",
    "FAMO",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "AgnosticMinimax",
    "AlignedMTL",
    "Balancer",
    "BoundaryIntersection",
    "CAGrad",
    "Combination",
    "ConFIG",
    "DualProj",
    "DynamicTaskPrioritization",
    "DynamicWeightAverage",
    "Equal",
    "ExcessMTL",
    "FairGrad",
    "FixedWeights",
    "FocalLoss",
    "GeometricMean",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "GradientOptions",
    "GramBalancer",
    "HighestLoss",
    "JacobianBalancer",
    "Krum",
    "LossBalancer",
    "MoCo",
    "MoDo",
    "NashMTL",
    "PCGrad",
    "RandomLossWeighting",
    "SDMGrad",
    "SmoothTchebycheff",
    "TrimmedMean",
    "UPGrad",
    "UncertaintyWeighting",
]
