"""One network for all tasks that is told by a descriptor which task it works on."""

from polytask.architectures.descriptors.conditioned import Conditioned
from polytask.architectures.descriptors.descriptor_model import DescriptorModel
from polytask.architectures.descriptors.gated import Gated
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.architectures.descriptors.two_sided import TwoSided
from polytask.architectures.families import Family

__all__ = ["Conditioned", "DescriptorModel", "Gated", "TaskDescriptors", "TwoSided"]

#: Where the task enters the models of this folder.
FAMILIES = (Family.DESCRIPTOR,)
