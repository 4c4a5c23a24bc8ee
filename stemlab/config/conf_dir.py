"""Path of ``conf/``: next to the package in a checkout, inside the package in an installed wheel."""

from pathlib import Path

from stemlab.errors import StemlabError


def conf_dir() -> Path:
    """Return the absolute path of ``conf/``.

    The folder next to the package has priority. The path is absolute because Hydra reads a relative one as a Python
    package when the command is a console script.

    Raises:
        StemlabError: neither folder exists.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "conf", package / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise StemlabError(f"the folder conf/ is missing next to {package}: reinstall stemlab.")
