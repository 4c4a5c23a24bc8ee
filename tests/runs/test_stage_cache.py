"""Ranks that start together agree on the first stage, also if a killed run left its decision."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from stemlab.config.compose import compose
from stemlab.reporting.record import write_json
from stemlab.runs import stage_cache
from stemlab.runs.stage_cache import StageCache


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Let this process be rank 1; the checkpoints from which it would resume its trainings."""
    resumed: list[str | None] = []
    monkeypatch.setattr(stage_cache, "is_first_process", lambda: False)
    monkeypatch.setattr(stage_cache, "newest_checkpoint", lambda directory: Path("last.ckpt"))
    monkeypatch.setattr(StageCache, "_train", lambda self, resume: resumed.append(resume))
    return resumed


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    """An unfinished first stage of a run that was killed in its first epoch and left the decision of its rank 0."""
    folders = [f"paths.runs_dir={tmp_path}", f"hydra.run.dir={tmp_path / 'second'}"]
    cache = StageCache(compose("train", ["model=timirec", "dataset=ml1m", *folders]), "fingerprint", [], None)
    cache.directory.parent.mkdir()
    write_json(cache._decision_file, {"run": str(tmp_path / "second"), "resume": None})
    return cache


def test_the_decision_of_a_killed_run_is_not_followed(
    cache: StageCache, trained: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rank_0_decides(seconds: float) -> None:
        assert not trained
        write_json(cache._decision_file, {"run": str(tmp_path / "second"), "resume": "last.ckpt"})

    monkeypatch.setattr(stage_cache, "time", SimpleNamespace(sleep=rank_0_decides))
    cache.ensure()
    assert trained == ["last.ckpt"]


def test_a_finished_stage_is_not_trained_by_rank_1_alone(
    cache: StageCache, trained: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_cache, "newest_checkpoint", lambda directory: None)
    monkeypatch.setattr(StageCache, "is_finished", lambda self: True)
    cache.ensure()
    assert trained == []
