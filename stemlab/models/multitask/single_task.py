"""SingleTask: one network for one label, the reference for negative transfer."""

from __future__ import annotations

from collections.abc import Sequence

from stemlab.errors import StemlabError
from stemlab.models.multitask.shared_bottom import SharedBottom


class SingleTask(SharedBottom):
    """SharedBottom for exactly one task; same settings (as in the released code of STEM)."""

    @classmethod
    def check_tasks(cls, tasks: Sequence[str]) -> None:
        """Raise StemlabError unless there is exactly one task."""
        if len(tasks) != 1:
            raise StemlabError(
                f"SingleTask trains exactly one task, but got {len(tasks)} ({', '.join(tasks)}); "
                "choose one with model.task=<name>."
            )
