"""stemlab.reproduce on the committed records of negative transfer: training is replaced by copying their metrics."""

import json
import shutil

import pytest
import pytorch_lightning  # noqa: F401  (its log handler keeps the stream of its import: not that of a test)

from stemlab.config.compose import compose
from stemlab.config.resolve import config_hash
from stemlab.errors import Interrupted
from stemlab.reporting.record import write_json
from stemlab.reproduce import reproduce
from stemlab.reproduction import session
from stemlab.reproduction.plan import compose_runs

MODELS = ("stem", "mmoe")


class CopiedRuns:
    """Replaces ``run_missing``: writes the record of each missing run with the metrics of the committed one."""

    def __init__(self, folder):
        records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
        self.records = {self.key(one["config"]): one for one in records}
        self.started, self.most, self.error, self.shift = [], None, None, 0.0

    @staticmethod
    def key(config):
        return config["model"]["name"], config["model"]["task"], config["dataset"]["split"]["seed"]

    def __call__(self, runs, jobs, deadline):
        for number, run in enumerate([run for run in runs if not run.finished]):
            if number == self.most:
                if self.error:
                    raise self.error
                return {}
            self.started.append(run.name)
            record = self.records[self.key(run.config)]
            metrics = {name: value + self.shift for name, value in record["metrics"].items()}
            write_json(
                run.directory / "record.json",
                {**record, "config": run.config, "config_hash": config_hash(run.config), "metrics": metrics},
            )
        return {}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduced_negative_transfer")
    (folder / "feedback_log_kcore15.csv").touch()
    words = ["reproduce=negative_transfer", f"raw_dir={folder}", f"output={folder / 'out'}"]
    whole = compose("reproduce", words)
    groups = whole["reproduce"]["runs"]  # two models and one task are enough here
    del groups[1], groups[2:]
    groups[1]["experiments"] = [f"kuairand_log/{name}" for name in MODELS]
    return whole


@pytest.fixture(scope="module")
def composed():
    """Configs by settings: each run is composed and validated once."""
    return {}


@pytest.fixture
def copied(config, composed, root, monkeypatch):
    def compose_once(runs):
        new = [run for run in runs if tuple(run.words) not in composed]
        if new:
            compose_runs(new)
            composed.update({tuple(run.words): run.config for run in new})
        for run in runs:
            run.config = composed[tuple(run.words)]

    monkeypatch.setattr(session, "compose_runs", compose_once)
    runner = CopiedRuns(root / "scripts" / "records" / "kuairand_log")
    monkeypatch.setattr(session, "run_missing", runner)
    monkeypatch.setattr(session.Reproduction, "prepare", lambda self: None)
    shutil.rmtree(config["output"], ignore_errors=True)
    return runner


def read(config):
    return json.loads((session.Path(config["output"]) / "reproduction.json").read_text())


def test_a_reproduction_is_interrupted_resumed_and_compared(config, copied, capsys):
    copied.most, copied.error = 5, Interrupted(15)
    with pytest.raises(Interrupted) as error:
        reproduce(config)
    assert "5 of 18" in error.value.advice
    assert (read(config)["status"], len(read(config)["missing"])) == ("interrupted", 13)

    copied.most, copied.error = 4, None  # the budget is spent
    assert reproduce({**config, "budget": "10m", "reduce": False}) == 3
    found = read(config)
    assert (len(found["missing"]), found["checks"], found["exit_status"]) == (9, [], 3)
    assert "9 runs missing" in capsys.readouterr().out

    copied.most = None
    assert reproduce(config) == 0
    assert len(copied.started) == len(set(copied.started)) == 18
    found = read(config)
    values = {(one["row"].split()[0], one["column"]): one["ours"] for one in found["checks"]}
    assert values == {
        ("mmoe", "auc/is_comment"): pytest.approx(-0.0510, abs=5e-5),
        ("stem", "auc/is_comment"): pytest.approx(0.0005, abs=5e-5),
    }
    assert {run["status"] for run in found["runs"].values()} == {"finished"}
    output = capsys.readouterr().out
    assert "REPRODUCED" in output
    assert "-0.0510 ± 0.0072" in output

    assert reproduce(config) == 0  # nothing is left to run
    assert len(copied.started) == 18


def test_numbers_outside_of_the_tolerance_and_reduced_forms(config, copied, capsys):
    assert reproduce({**config, "seeds": 2}) == 3
    found = read(config)
    assert (found["limited"], found["checks"]) == ("2 of 6 values of dataset.split.seed", [])
    assert "LIMITED" in capsys.readouterr().out

    for one in copied.records.values():  # the baseline only
        one["metrics"] = {
            name: value - 0.02 * (one["model"] == "single_task") for name, value in one["metrics"].items()
        }
    shutil.rmtree(config["output"])
    assert reproduce(config) == 1
    assert "outside: mmoe" in capsys.readouterr().out


def test_a_key_that_only_missing_runs_have_defines_no_row(config, copied, capsys):
    copied.most = 2
    assert reproduce({**config, "reproduce": {**config["reproduce"], "study": "tiktok_conflict"}}) == 3
    table = next(session.Path(config["output"]).glob("tables/*.csv")).read_text().splitlines()
    assert table[0].startswith("model,")
    assert len(read(config)["missing"]) == 16
    assert "tables" in capsys.readouterr().out.splitlines()[-2]
