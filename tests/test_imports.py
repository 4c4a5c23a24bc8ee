"""Packages import only packages below them; the layers are in pyproject.toml (``[tool.importlinter]``)."""

import logging.config

import pytest
from importlinter.cli import lint_imports


@pytest.fixture(autouse=True)
def loggers_kept(monkeypatch):
    """Keep the loggers of this process: import-linter configures logging, which disables all that exist."""
    monkeypatch.setattr(logging.config, "dictConfig", lambda settings: None)


def test_imports_run_downward(capsys, root, monkeypatch):
    monkeypatch.chdir(root)
    status = lint_imports(config_filename=str(root / "pyproject.toml"), no_cache=True)
    printed = capsys.readouterr().out
    assert status == 0, printed  # names the importing file, the imported module and the line


def test_an_upward_import_is_named_with_its_line(tmp_path, capsys, monkeypatch, root):
    package = tmp_path / "layered"
    (package / "low").mkdir(parents=True)
    (package / "high").mkdir()
    for folder in (package, package / "low", package / "high"):
        (folder / "__init__.py").write_text("")
    (package / "high" / "top.py").write_text("")
    (package / "low" / "bottom.py").write_text('"""Doc."""\nfrom layered.high import top\n')
    contract = (
        '[[tool.importlinter.contracts]]\nname = "l"\ntype = "layers"\nlayers = ["layered.high", "layered.low"]\n'
    )
    (tmp_path / "pyproject.toml").write_text(f'[tool.importlinter]\nroot_package = "layered"\n{contract}')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    other = logging.getLogger("layered.other")
    assert lint_imports(config_filename=str(tmp_path / "pyproject.toml"), no_cache=True) == 1
    assert not other.disabled
    printed = capsys.readouterr().out
    assert "layered.low.bottom -> layered.high.top (l.2)" in printed
