"""Model card of an export: Markdown with the YAML header that Hugging Face reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from stemlab.config.limits import LIMITED, limits_text, run_limits
from stemlab.config.path_checks import PATH_KEYS
from stemlab.errors import StemlabError
from stemlab.reporting.record import RECORD, defined, read_record
from stemlab.runs.restore import RebuiltRun

_SHOWN_SECTIONS = ("model", "dataset", "optim", "trainer", "seed")
_NOT_SHOWN = PATH_KEYS | {"file"}  # paths of a machine


def model_card(run: RebuiltRun, facts: Mapping[str, Any]) -> str:
    """Return the model card.

    Args:
        run: the prepared run of the checkpoint.
        facts: content of ``export.json``: inputs, outputs, comparison.
    """
    record = _record_of(run)
    parts = [_header(run, facts, record), _title(run), _metrics(record, run), _inputs(facts), _data(run)]
    parts += [_training(run, record), _limits()]
    return "\n".join(parts)


def _record_of(run: RebuiltRun) -> dict[str, Any] | None:
    """Return the record of the run if its metrics are those of this checkpoint."""
    if run.directory is None:
        return None
    try:
        record = read_record(run.directory / RECORD)
    except StemlabError:
        return None
    best = (record.get("best") or {}).get("checkpoint")
    return record if best and run.directory / best == run.saved.path else None


def _marks(run: RebuiltRun) -> list[str]:
    limits = run_limits(run.saved.config, run.saved.stage1)
    return [*(["SAMPLE"] if run.saved.spec.sample else []), *([LIMITED] if limits else [])]


def _values(record: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the defined metrics of the record, those of the test split first."""
    metrics = (record or {}).get("metrics") or {}
    known = {name: value for name, value in metrics.items() if value is not None}
    return dict(sorted(known.items(), key=lambda item: (not item[0].startswith("test/"), item[0])))


def _header(run: RebuiltRun, facts: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    name, family = run.config["model"]["name"], run.config["model"]["family"]
    test = {metric: value for metric, value in _values(record).items() if metric.startswith("test/")}
    results = [{"type": metric.split("/")[1], "value": value, "name": metric} for metric, value in test.items()]
    dataset = {"name": facts["dataset"], "type": facts["dataset"], "split": "test", "revision": run.saved.fingerprint}
    header: dict[str, Any] = {
        "library_name": {"onnx": "onnx"}.get(facts["format"], "pytorch"),
        "tags": ["recommendation", family, name, "stemlab", *_marks(run)],
        "datasets": [facts["dataset"]],
        "metrics": sorted({metric.split("/")[1] for metric in test}),
    }
    if results:
        task = {"type": "recommendation", "name": "ranking" if family == "sequential" else "prediction of labels"}
        result = {"task": task, "dataset": dataset, "metrics": results}
        header["model-index"] = [{"name": f"{name}-{facts['dataset']}", "results": [result]}]
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n"


def _title(run: RebuiltRun) -> str:
    lines = [f"# {run.config['model']['name']} on {run.saved.spec.name}", ""]
    marks = _marks(run)
    if "SAMPLE" in marks:
        lines.append("**SAMPLE**: trained on synthetic data. Its metrics are not results.\n")
    if LIMITED in marks:
        limits = limits_text(run_limits(run.saved.config, run.saved.stage1))
        lines.append(f"**{LIMITED}**: trained or measured on a part of the batches ({limits}).\n")
    lines.append(
        "Exported by stemlab. Weights and inputs are float32 and integers; no code of stemlab is needed to run it.\n"
    )
    return "\n".join(lines)


def _metrics(record: Mapping[str, Any] | None, run: RebuiltRun) -> str:
    values = _values(record)
    if record is None or not values:
        return (
            "## Metrics\n\nNone: the checkpoint is not the best one of a finished run in its run directory "
            f"({run.saved.path.name}, epoch {run.saved.epochs}).\n"
        )
    best = record["best"]
    rows = [f"| {name} | {value:.6g} |" for name, value in values.items()]
    selected = f"Epoch {best['epoch']}, selected by {best['monitor']}. Names: split/metric/task/scenario."
    return "\n".join(["## Metrics", "", selected, "", "| metric | value |", "|---|---|", *rows, ""])


def _inputs(facts: Mapping[str, Any]) -> str:
    lines = ["## Inputs and outputs", "", "| name | type | shape |", "|---|---|---|"]
    for part in (*facts["inputs"], *facts["outputs"]):
        columns = f" ({', '.join(part['columns'])})" if "columns" in part else ""
        lines.append(f"| {part['name']} | {part['type']} | {part['shape']}{columns} |".replace("'", ""))
    lines += [
        "",
        "`encode` (needs only NumPy) makes the inputs from raw rows by the rules in `encoder.json`:",
        "",
        "```python",
        "from encode import load",
        "",
        'inputs = load("encoder.json")(rows)  # rows: dicts, a dict of columns, or a DataFrame',
        "```",
        "",
        f"The scores of the file and of the checkpoint differ by at most {facts['check']['largest_difference']:.2g} on "
        f"{facts['check']['rows']} made-up rows.",
        "",
    ]
    return "\n".join(lines)


def _data(run: RebuiltRun) -> str:
    manifest = run.datamodule.manifest
    lines = ["## Data", "", f"Dataset {run.saved.spec.name}, fingerprint `{run.saved.fingerprint}`.", ""]
    counts = ", ".join(f"{split} {count:,}" for split, count in (manifest.get("rows") or {}).items())
    lines += [f"Samples: {counts}.", ""] if counts else []
    rule = manifest.get("split")
    lines += [f"Split: {_words(rule)}.", ""] if rule else []
    raw = [
        f"- `{file['name']}`, {file['size']:,} bytes, SHA-256 `{file['sha256']}`" for file in manifest.get("raw") or []
    ]
    return "\n".join([*lines, *(["Raw files:", "", *raw, ""] if raw else [])])


def _words(values: Any) -> str:
    if not isinstance(values, Mapping):
        return str(values)
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def _training(run: RebuiltRun, record: Mapping[str, Any] | None) -> str:
    code = (record or {}).get("code") or {}
    commit = code.get("git_commit") or "unknown"
    version = code.get("version") or "unknown"
    changed = ", with local changes" if code.get("git_dirty") else ""
    settings = {key: _settings(run.saved.config[key]) for key in _SHOWN_SECTIONS if key in run.saved.config}
    text = yaml.safe_dump(defined(settings), sort_keys=False, allow_unicode=True)
    return "\n".join(
        [
            "## Training",
            "",
            f"stemlab {version}, commit {commit}{changed}; checkpoint after {run.saved.epochs} epochs, "
            f"{run.saved.step} steps.",
            "",
            "```yaml",
            text.rstrip(),
            "```",
            "",
        ]
    )


def _settings(values: Any) -> Any:
    """Return settings without paths of the machine of the training."""
    if not isinstance(values, Mapping):
        return values
    return {key: _settings(value) for key, value in values.items() if key not in _NOT_SHOWN}


def _limits() -> str:
    return "\n".join(
        [
            "## Limits",
            "",
            "Values that the training did not see are out-of-vocabulary and share one embedding per field. Scores are",
            "valid for data like that of the training; they do not follow later changes of users or items.",
            "",
        ]
    )
