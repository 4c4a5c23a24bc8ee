"""Click prediction networks for any number of tasks, used by the analyses of embeddings."""

from stemlab.models.ctr.ame import AME
from stemlab.models.ctr.dcnv2 import DCNv2

__all__ = ["AME", "DCNv2"]
