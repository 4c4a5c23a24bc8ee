"""Networks of click prediction, for any number of tasks: what the analyses of embeddings look at."""

from stemlab.models.ctr.ame import AME
from stemlab.models.ctr.dcnv2 import DCNv2

__all__ = ["AME", "DCNv2"]
