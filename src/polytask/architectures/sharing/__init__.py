"""Sharing inside the network: one trunk, own encoders around a shared core, or nothing at all."""

from polytask.architectures.families import Family
from polytask.architectures.sharing.cross_domain import CrossDomain
from polytask.architectures.sharing.hard_sharing import HardSharing
from polytask.architectures.sharing.independent import Independent
from polytask.architectures.sharing.specialised import SpecialisedModels, combine_outputs

__all__ = ["CrossDomain", "HardSharing", "Independent", "SpecialisedModels", "combine_outputs"]

#: Where the task enters the models of this folder.
FAMILIES = (Family.INTRA_DOMAIN, Family.CROSS_DOMAIN)
