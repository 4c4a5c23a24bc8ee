"""Errors with which a command ends without a traceback."""

from __future__ import annotations

import os

from stemlab.config.machine_errors import machine_error
from stemlab.config.own_errors import FULL_ERROR, own_error
from stemlab.config.process_watch import report_reason
from stemlab.errors import StemlabError


def user_error(error: Exception) -> StemlabError:
    """Return an error of the user, of the user's classes or of the machine with its message; raise any other error."""
    from hydra.errors import HydraException

    if isinstance(error, StemlabError):
        return error
    message = str(error) if isinstance(error, HydraException) else machine_error(error) or own_error(error)
    if message is None or FULL_ERROR in os.environ:
        report_reason(f"{type(error).__name__}: {error}")
        raise error
    return StemlabError(message)
