"""Where the folder ``conf/`` is: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path

from stemlab.errors import StemlabError


def conf_dir() -> Path:
    """Return the absolute path of ``conf/``.

    A checkout wins over a copy inside the package; a relative path would be read by Hydra as a Python package when the
    command is a console script.

    Raises:
        StemlabError: neither exists (a broken installation).
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "conf", package / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise StemlabError(f"the configuration folder conf/ is missing beside {package}: install stemlab again.")
