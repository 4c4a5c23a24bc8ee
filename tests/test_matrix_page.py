"""docs/matrix.md is what scripts/matrix.py writes."""

import importlib.util

import pytorch_lightning  # noqa: F401  (its log handler keeps the stream of its import: not that of a test)


def test_the_page_is_that_of_the_code(root):
    spec = importlib.util.spec_from_file_location("matrix_page", root / "scripts" / "matrix.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = module.PAGE.read_text(encoding="utf-8")
    assert module.page() == written, "a check has changed: run python scripts/matrix.py and commit docs/matrix.md"
    refused = module.changed(dict(module.base_configs())["lightgcn"], {"optim.tables": "sparse_adam"})
    assert "propagates all rows" in module.refusal(refused)
    assert "| lightgcn | yes | yes | yes | [" in module.PAGE.read_text(encoding="utf-8")
