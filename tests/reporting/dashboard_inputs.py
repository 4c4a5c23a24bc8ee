"""Settings, curves and results of analyses for the tests of the dashboard."""

import json

from stemlab.config.compose import compose
from stemlab.config.dashboard_schema import DashboardConfig
from stemlab.config.instantiate import validate_as

CURVES = "epoch,step,train/loss,val/auc\n1,4,0.7,\n1,8,0.6,0.71\n2,12,0.5,\n2,16,,0.74\n"
SPECTRA = (
    "run/field/role,1,2,3\nstem/user/shared,1.0,0.5,0.25\nstem/item/shared,1.0,0.3,0.15\nstem/sex/shared,1.0,0.9,0.0\n"
)


def dashboard_settings(*words):
    """Return the settings of the command with some words on the command line."""
    return validate_as(DashboardConfig, compose("dashboard", list(words)))


def _cell(gain):
    return {"rows": 50, "positives": 9, "auc": 0.7, "low": gain - 0.001, "high": gain + 0.001}


def write_analyses(folder, run):
    """Write results of comparable, transfer and collapse of a run (its record); return the folder.

    The gain of stem is 0.002 in bucket B1 and -0.003 in bucket B2*, and 0.001 for all samples.
    """
    identity = {key: run[key] for key in ("dataset_fingerprint", "config_hash", "seed")}
    runs = [{"label": "stem", "model": "stem", **identity}, {"label": "single", "model": "single_task", **identity}]
    alone = {"B1": {"rows": 50, "auc": 0.7}}
    buckets = {"B1": {**_cell(0.002), "delta_auc": 0.002}, "B2*": {**_cell(-0.003), "delta_auc": -0.003}}
    panel = {"baseline": "single", "models": {"single": alone, "stem": buckets}}
    numbers = {
        "comparable": {"comparisons": [{"tasks": ["finish", "like"], "panels": {"like": panel}}]},
        "transfer": {"tasks": {"like": {"models": {"stem": {"all": {**_cell(0.001), "gain": 0.001}}}}}},
        "collapse": {"runs": {"stem": {}}},
    }
    for name, found in numbers.items():
        results = {"command": "analyze", "runs": runs, "sample": False, "sections": {name: {"numbers": found}}}
        (folder / name).mkdir(parents=True)
        (folder / name / "results.json").write_text(json.dumps(results))
    (folder / "collapse" / "spectra.csv").write_text(SPECTRA)
    return folder
