"""Install packages into the environment of this Python as ``pip install`` does, by uv, which takes far less CPU time.

    python scripts/install.py -c constraints.txt -e '.[dev]'

pip installs uv, and uv gets pip's settings (indexes, folders of wheels, constraints). Where uv cannot be had, fails, or
pip has a setting that has no counterpart here, pip installs.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

UV = "uv>=0.9"
# setting of pip -> variable of uv, and what separates several values there
VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", " "),
}
WITHOUT_EFFECT = {"default-timeout", "timeout", "retries", "disable-pip-version-check", "quiet", "no-compile"}
PIP = (sys.executable, "-m", "pip")


def uv_variables(listed: str) -> dict[str, str] | None:
    """Return the variables that give pip's settings to uv.

    Args:
        listed: output of ``pip config list``.

    Returns:
        None if a setting has no counterpart.
    """
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # as pip does: the best version of all indexes
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section not in ("global", "install", ":env:"):
            continue  # of another command of pip
        if name in VARIABLES:
            variable, separator = VARIABLES[name]
            found[variable] = separator.join(str(ast.literal_eval(value)).split())
        elif name not in WITHOUT_EFFECT:
            return None
    return found


def install_by_uv(arguments: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Install with uv and return whether it succeeded; variables of uv that are set already stay."""
    if subprocess.run([*PIP, "install", "--quiet", "--disable-pip-version-check", UV]).returncode:
        return False
    compiled = "--no-compile" not in arguments and not os.environ.get("PIP_NO_COMPILE")
    words = [word for word in arguments if word != "--no-compile"] + ["--compile-bytecode"] * compiled
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, *words]
    return subprocess.run(command, env={**variables, **os.environ}).returncode == 0


def main(arguments: Sequence[str]) -> int:
    """Install and return the exit status."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True)
    variables = uv_variables(listed.stdout) if listed.returncode == 0 else None
    if variables is not None:
        if install_by_uv(arguments, variables):
            return 0
        print("uv could not install the packages: pip tries", file=sys.stderr)
    return subprocess.run([*PIP, "install", "--quiet", "--disable-pip-version-check", *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
