"""The cache of first stages: its entries, and the agreement of ranks that start together."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from stemlab.config.compose import compose
from stemlab.config.resolve import config_hash
from stemlab.reporting.record import write_json
from stemlab.runs import stage_cache
from stemlab.runs.stage_cache import StageCache, first_stage_hash
from stemlab.runs.stages import PretrainRun


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


def test_a_first_stage_that_is_finished_already_is_linked_under_its_hash(tmp_path: Path) -> None:
    directory = tmp_path / "first"
    words = ["model=timirec", "model.stage=pretrain", "dataset=ml1m", "resume=auto", f"hydra.run.dir={directory}"]
    config = compose("train", [*words, f"paths.runs_dir={tmp_path}"])
    directory.mkdir()
    values = {"config_hash": config_hash(config), "dataset_fingerprint": "abc", "metrics": {config["objective"]: 0.25}}
    write_json(directory / "record.json", {"schema": 1, "status": "finished", **values})
    assert PretrainRun(config, [], None).run() == 0.25
    (link,) = (path for path in (tmp_path / "stages").iterdir() if path.is_symlink())
    assert link.name == f"timirec-{first_stage_hash(config, 'abc')}"
    assert link.resolve() == directory


def test_callbacks_of_the_user_belong_to_the_hash_of_a_first_stage() -> None:
    """They may end a training: the first stage of a run with a time limit is not that of a run without it."""
    config = compose("train", ["model=timirec", "dataset=ml1m"])
    limited = config | {"callbacks": config["callbacks"] | {"own": {"limit": {"_target_": "mine.Limit", "seconds": 1}}}}
    assert first_stage_hash(limited, "abc") != first_stage_hash(config, "abc")
