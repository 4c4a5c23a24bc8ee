"""Messages for exceptions in the user's own classes (``_target_``): setting, file, line and function."""

from __future__ import annotations

import os
from pathlib import Path
from types import CodeType

from stemlab.errors import SETTING_NOTE

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Variable with which commands show tracebacks."""
_LENGTH = 500
_packages: set[str] = set()


def remember_own_module(name: str) -> None:
    """Count the package of a module that a setting names as code of the user, unless it is stemlab."""
    if name.partition(".")[0] != "stemlab":
        _packages.add(name.partition(".")[0])


def is_own_module(name: str) -> bool:
    """Return whether a module belongs to a package with a class that a setting names."""
    return name.partition(".")[0] in _packages


def forget_own_modules() -> None:
    """Forget the modules of an earlier command in this process."""
    _packages.clear()


def own_error(error: BaseException) -> str | None:
    """Return one sentence for an exception that the user's own code raised; None for any other exception."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(SETTING_NOTE)]
    where = [*(note.removeprefix(SETTING_NOTE) for note in notes), _syntax_place(error) or _deepest_place(error)]
    if not any(where):
        return None
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    if len(text) > _LENGTH:
        text = f"{text[:_LENGTH]} ..."
    places = ": ".join(one for one in where if one is not None)
    return f"{places}: {type(error).__name__}: {text} ({FULL_ERROR}=1 shows the traceback)"


def _syntax_place(error: BaseException) -> str | None:
    if isinstance(error, SyntaxError) and error.filename and _packages and not _is_installed(error.filename):
        return f"{_shown(error.filename)}, line {error.lineno}"
    return None


def _deepest_place(error: BaseException) -> str | None:
    """Return the last place in own code that the exception passed."""
    found, step = None, error.__traceback__
    while step is not None:
        code, name = step.tb_frame.f_code, step.tb_frame.f_globals.get("__name__") or ""
        if is_own_module(name) and not _is_installed(code.co_filename):
            found = f"{_shown(code.co_filename)}, line {step.tb_lineno}{_function(code)}"
        step = step.tb_next
    return found


def _function(code: CodeType) -> str:
    name = code.co_qualname
    return "" if name == "<module>" else f", in {name}"


def _is_installed(path: str) -> bool:
    """Return whether a file belongs to Python or to an installed package, or is no file."""
    import sysconfig

    return path.startswith(("<", *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))))


def _shown(path: str) -> str:
    """Return a path relative to the current directory if it is inside of it."""
    own, here = Path(path), Path(os.getcwd())
    return str(own.relative_to(here) if own.is_relative_to(here) else own)
