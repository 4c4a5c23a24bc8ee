"""Multi-task networks: several binary labels of the same impression."""

from stemlab.models.multitask.aitm import AITM
from stemlab.models.multitask.esmm import ESMM
from stemlab.models.multitask.gate_shares import gate_shares
from stemlab.models.multitask.metaheac import MetaHeac
from stemlab.models.multitask.mmoe import MMoE
from stemlab.models.multitask.mmoe_me import MMoE_ME
from stemlab.models.multitask.omoe import OMoE
from stemlab.models.multitask.ple import PLE
from stemlab.models.multitask.ple_me import PLE_ME
from stemlab.models.multitask.shared_bottom import SharedBottom
from stemlab.models.multitask.single_task import SingleTask
from stemlab.models.multitask.stem import STEM

__all__ = [
    "AITM",
    "ESMM",
    "PLE",
    "PLE_ME",
    "STEM",
    "MMoE",
    "MMoE_ME",
    "MetaHeac",
    "OMoE",
    "SharedBottom",
    "SingleTask",
    "gate_shares",
]
