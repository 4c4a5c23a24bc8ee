"""Messages for exceptions of the user's own classes."""

import pytest

from stemlab.config.instantiate import import_target, instantiate
from stemlab.config.own_errors import forget_own_modules, own_error
from stemlab.errors import StemlabError, named_in_errors

SOURCE = """
import math
class Root:
    def __init__(self, *, value: float = 1.0):
        self.root = math.sqrt(value)
    def again(self, text):
        return self.root + text
class Refuses:
    def __init__(self):
        from stemlab.errors import StemlabError
        raise StemlabError("use another one")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "module_of_errors.py").write_text(SOURCE)
    (tmp_path / "module_with_typo.py").write_text("x = 1\nclass A\n")
    yield "module_of_errors"
    forget_own_modules()


def raised(function, *arguments, **settings):
    with pytest.raises(Exception) as found:  # noqa: PT011
        function(*arguments, **settings)
    return own_error(found.value)


def test_the_message_names_setting_file_line_and_function(own):
    node = {"_target_": f"{own}.Root", "value": -1.0}
    text = raised(instantiate, node, key="model.net")
    assert text.startswith("model.net: module_of_errors.py, line 5, in Root.__init__: ValueError: math domain error")
    one = instantiate({"_target_": f"{own}.Root"}, key="model.net")
    assert raised(one.again, "a").startswith("module_of_errors.py, line 7, in Root.again: TypeError: ")
    with pytest.raises(StemlabError, match=r"^use another one$"):
        instantiate({"_target_": f"{own}.Refuses"}, key="model.net")
    assert "module_with_typo.py, line 2: SyntaxError" in raised(import_target, {"_target_": "module_with_typo.A"})


def test_errors_of_other_code_have_no_such_message(own):
    one = import_target({"_target_": f"{own}.Root"})()
    assert raised(float, "a") is None
    forget_own_modules()
    assert raised(one.again, "a") is None
    with pytest.raises(ValueError, match="could not") as found, named_in_errors("metrics.own.x"):
        float("a")
    assert own_error(found.value).startswith("metrics.own.x: ValueError: could not convert")  # called with wrong values
    import_target({"_target_": "pytest.Item"})
    assert raised(pytest.importorskip, 5) is None
