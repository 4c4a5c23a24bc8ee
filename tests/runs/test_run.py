"""What ends a training before it starts."""

from pathlib import Path

import pytest

from stemlab.config.compose import compose
from stemlab.errors import StemlabError
from stemlab.runs.run import TrainingRun


@pytest.mark.parametrize("trainer", ["gpu", "ddp"])
def test_a_missing_gpu_is_reported_before_data_are_prepared(
    trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``trainer=ddp`` counts no process without a GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    words = ["model=shared_bottom", "dataset=tiktok", f"trainer={trainer}", f"paths.root_dir={tmp_path}"]
    with pytest.raises(StemlabError, match="needs a GPU"):
        TrainingRun(compose("train", words), [], None)._train()
    assert not list(tmp_path.iterdir())
