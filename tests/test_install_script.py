"""scripts/install.py gives pip's settings to uv, and leaves the work to pip where it cannot."""

import importlib.util
import subprocess
from types import ModuleType, SimpleNamespace

import pytest


@pytest.fixture
def install(root) -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_script", root / "scripts" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_of_pip_are_variables_of_uv(install):
    listed = (
        ":env:.cert='/etc/one.crt'\nfreeze.all='true'\nglobal.constraint='/etc/c.txt'\nglobal.timeout='180'\n"
        "global.extra-index-url='\\nhttps://one/simple\\nhttps://two/simple'\ninstall.find-links='/a /b'\n"
    )
    assert install.uv_variables(listed) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/etc/one.crt",
        "UV_CONSTRAINT": "/etc/c.txt",
        "UV_INDEX": "https://one/simple https://two/simple",
        "UV_FIND_LINKS": "/a,/b",
    }
    assert install.uv_variables("global.proxy='http://one'\n") is None


@pytest.mark.parametrize(
    ("failing", "programs"),
    [((), ["pip uv", "uv"]), (("pip uv",), ["pip uv", "pip"]), (("uv",), ["pip uv", "uv", "pip"])],
)
def test_pip_installs_where_uv_fails(install, monkeypatch, failing, programs):
    called = []

    def run(command, **_):
        if "config" in command:
            return SimpleNamespace(returncode=0, stdout="")
        name = "uv" if command[2] == "uv" else "pip uv" if command[-1].startswith("uv") else "pip"
        called.append((name, command))
        return SimpleNamespace(returncode=int(name in failing))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("PIP_NO_COMPILE", raising=False)
    assert install.main(["--no-compile", "-c", "c.txt", "-e", ".[dev]"]) == 0
    assert [name for name, _ in called] == programs
    words = dict(called)
    if "uv" in words:
        assert words["uv"][-4:] == ["-c", "c.txt", "-e", ".[dev]"]
        assert "--no-compile" not in words["uv"]
    if "pip" in words:
        assert words["pip"][-5:] == ["--no-compile", "-c", "c.txt", "-e", ".[dev]"]
