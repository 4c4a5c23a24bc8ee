"""stemlab from Python: train on a data frame, evaluate, predict; the same runs and records as the commands.

    from stemlab import api

    run = api.fit(frame, model="stem", tasks=["click", "buy"], fields=["user", "item"])
    run.metrics["test/auc/click"]
    run.predict(frame)

Mistakes raise ``StemlabError`` with the message that the command would print (docs/python.md). Calls from
several threads run one after another: Hydra, the random states and standard output belong to the process.
"""

from __future__ import annotations

import functools
import inspect
import io
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from stemlab.errors import StemlabError

Frame = Any
"""A data frame: of pandas or polars, an Arrow table, or the path of a CSV or Parquet file."""
P = ParamSpec("P")
R = TypeVar("R")
_running = threading.RLock()
Settings = Mapping[str, Any]
"""Setting as on the command line -> value: ``{"trainer.max_epochs": 3, "optim": "ranking"}``."""


def _one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function during which other threads wait."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _running:
            return function(*args, **kwargs)

    return call


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Attributes:
        directory: run directory: ``record.json``, checkpoints, curves.
        checkpoint: weights of the best epoch.
        metrics: full metric name (``test/auc/click``) -> value of the best epoch; ``None`` where undefined.
        allow: packages, besides stemlab, from which its classes may be built.
    """

    directory: Path
    checkpoint: Path
    metrics: Mapping[str, float | None] = field(repr=False)
    allow: tuple[str, ...] = ()

    @property
    def record(self) -> dict[str, Any]:
        """The record of the run: config, data, versions, hardware, metrics."""
        from stemlab.reporting.record import read_record

        return read_record(self.directory)

    def evaluate(self, data: Frame | None = None, *, split: str = "test") -> dict[str, float | None]:
        """Return the metrics of ``evaluate``."""
        return evaluate(self, data, split=split)

    def predict(self, data: Frame | None = None, *, settings: Settings | None = None) -> Any:
        """Return the predictions of ``predict``."""
        return predict(self, data, settings=settings)


@_one_at_a_time
def fit(
    data: Frame | None = None,
    *,
    model: str | type = "shared_bottom",
    dataset: str = "table",
    tasks: Sequence[str] | None = None,
    fields: Sequence[str] | None = None,
    numericals: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> TrainedRun:
    """Train a model in this process, as ``python -m stemlab.train`` does.

    A data frame is stored as a Parquet file under ``data/frames``, named by its content, and read by the dataset.

    Args:
        data: the training data with its labels; ``None`` for a dataset with files of its own (``dataset="tiktok"``).
        model: an option of ``model=``, or a network class of your own.
        dataset: an option of ``dataset=``: ``table`` for impressions, ``interactions`` for histories.
        tasks: label columns, for ``table``.
        fields: categorical input columns, for ``table``.
        numericals: numerical input columns, for ``table``.
        settings: further settings.

    Returns:
        The run: directory, metrics, checkpoint; ``run.predict(frame)`` scores rows.

    Raises:
        StemlabError: a wrong setting, data that cannot be read, or a training that cannot go on.
    """
    from stemlab.config.job_process import process_count
    from stemlab.config.process_state import process_state_kept
    from stemlab.config.python_settings import compose_settings, without_override
    from stemlab.train import train

    words = {"dataset": dataset, "dataset.tasks": tasks, "dataset.fields": fields, "dataset.numericals": numericals}
    given = {
        key: list(value) if not isinstance(value, str) else value for key, value in words.items() if value is not None
    }
    named, allow = _named_model(model, settings or {})
    chosen = {**named, **given, **(settings or {})}
    if data is not None:
        chosen["dataset.path"] = str(_stored(data, chosen))
    config, typed = compose_settings("train", chosen)
    if process_count(config["trainer"]) > 1:
        raise StemlabError("fit trains in this process: set trainer.devices to 1, or use python -m stemlab.train.")
    with process_state_kept():
        train(config, typed, unexpressed=without_override(chosen))
    return load(config["paths"]["output_dir"], allow=allow)


def load(path: str | Path, *, allow: Sequence[str] = ()) -> TrainedRun:
    """Return a finished run.

    Args:
        path: run directory, or one of its checkpoints.
        allow: packages of own classes that the checkpoint may name; their code runs (docs/security.md).

    Raises:
        StemlabError: there is no record or checkpoint.
    """
    from stemlab.reporting.record import read_record

    given = Path(path).absolute()
    folder = given.parent.parent if given.is_file() else given
    record = read_record(folder)
    if given.is_dir() and record["best"] is None:
        raise StemlabError(f"{given} has no best checkpoint: its status is {record['status']}.")
    checkpoint = given if given.is_file() else folder / record["best"]["checkpoint"]
    return TrainedRun(folder, checkpoint, dict(record["metrics"]), tuple(allow))


@_one_at_a_time
def evaluate(
    run: TrainedRun | str | Path, data: Frame | None = None, *, split: str = "test"
) -> dict[str, float | None]:
    """Return the metrics of a run on a split of its dataset, or on other data.

    Args:
        run: a run, its directory, or a checkpoint.
        data: rows with the columns of the training, labels included (impressions only); ``None``: a split.
        split: ``train``, ``valid`` or ``test``.

    Returns:
        Full metric name -> value, ``None`` where undefined. Metrics of ``data`` have the prefix ``data/``; those of a
        frame with the rows of a split in their order are those of the record, bit for bit.

    Raises:
        StemlabError: the checkpoint or the data cannot be read.
    """
    from stemlab.config.process_state import process_state_kept
    from stemlab.config.python_settings import compose_settings
    from stemlab.evaluate import evaluate as evaluate_checkpoint
    from stemlab.reporting.record import defined

    found = run if isinstance(run, TrainedRun) else load(run)
    if data is not None:
        from stemlab.data.io.frames import arrow_table
        from stemlab.inference.measure_rows import measure_rows

        record = found.record
        if "tasks" not in record["config"]["dataset"]:
            raise StemlabError("the metrics of other data need a table with labels: leave the data out for a split.")
        table = arrow_table(predict(found, data, settings=_evaluated_as_split(found, data)))
        measured: dict[str, float | None] = defined(measure_rows(table, record["config"], record["dataset_manifest"]))
        return measured
    config, _ = compose_settings(
        "evaluate", {"ckpt": str(found.checkpoint), "split": split, "allow": list(found.allow)}
    )
    with process_state_kept():
        metrics: dict[str, float | None] = defined(evaluate_checkpoint(config))
    return metrics


@_one_at_a_time
def predict(run: TrainedRun | str | Path, data: Frame | None = None, *, settings: Settings | None = None) -> Any:
    """Return predictions, as ``python -m stemlab.predict`` writes them.

    Args:
        run: a run, its directory, or a checkpoint.
        data: impressions: rows with the input columns of the training. Histories: a column ``user``, or columns
            ``user``, ``item`` and ``time``; ``None``: all users of the dataset.
        settings: further settings of the command, such as ``{"topk": 10}``.

    Returns:
        A data frame of the library of ``data`` (of pandas for a file or ``None``): the columns of ``data`` and
        ``pred_<task>``, or columns ``user``, ``item``, ``rank`` and ``score``.

    Raises:
        StemlabError: the checkpoint or the data cannot be read.
    """
    import pyarrow.parquet as pq

    from stemlab.config.process_state import process_state_kept
    from stemlab.config.python_settings import compose_settings
    from stemlab.data.io.frames import arrow_table, frame_like
    from stemlab.predict import predict as predict_file

    found = run if isinstance(run, TrainedRun) else load(run)
    with tempfile.TemporaryDirectory(prefix="stemlab-") as folder:
        chosen: dict[str, Any] = {"ckpt": str(found.checkpoint), "allow": list(found.allow)}
        chosen |= {"output": f"{folder}/output.parquet", **(settings or {})}
        if isinstance(data, str | Path):
            chosen["input"] = str(data)
        elif data is not None:
            pq.write_table(arrow_table(data), f"{folder}/input.parquet")
            chosen["input"] = f"{folder}/input.parquet"
        config, _ = compose_settings("predict", chosen)
        with _frame_named(f"{folder}/input.parquet"), process_state_kept(), redirect_stdout(io.StringIO()):
            summary = predict_file(config)
        print(re.sub(rf"( into| written to) {re.escape(folder)}\S*parquet", "", summary))
        table = pq.read_table(chosen["output"], memory_map=False)
    return frame_like(table, None if isinstance(data, str | Path) else data)


@contextmanager
def _frame_named(file: str) -> Iterator[None]:
    """Say ``the data`` in errors, instead of the temporary file with the rows of a frame."""
    try:
        yield
    except StemlabError as error:
        raise StemlabError(str(error).replace(file, "the data")) from error.__cause__


def _evaluated_as_split(run: TrainedRun, data: Frame) -> Settings:
    """Return the size of the batches of a split with as many rows: the rounding of a score depends on it."""
    from stemlab.data.batch_order import evaluation_batch_size
    from stemlab.data.io.frames import arrow_table

    if isinstance(data, str | Path):
        return {}
    largest = int(run.record["config"]["dataset"].get("eval_batch_size", 16384))
    return {"batch_size": evaluation_batch_size(largest, arrow_table(data).num_rows)}


def _named_model(model: str | type, settings: Settings) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings that choose a model, and the packages that a class of the user belongs to."""
    if not inspect.isclass(model):
        own = str(settings.get("model.net._target_", "stemlab.")).partition(".")[0]
        return {"model": model}, () if own == "stemlab" else (own,)
    option = "own_sequential" if getattr(model, "reads", None) == "sequences" else "own"
    if hasattr(model, "EXTRACTOR_SETTINGS"):
        option = "own_two_stage"
    package = model.__module__.partition(".")[0]
    target = f"{model.__module__}.{model.__qualname__}"
    return {"model": option, "model.net._target_": target}, () if package == "stemlab" else (package,)


def _stored(data: Frame, settings: Settings) -> Path:
    """Return the file of the data; a data frame is written to the folder of the data first."""
    from stemlab.data.io.frames import arrow_table, snapshot

    if isinstance(data, str | Path):
        return Path(data)
    root = Path(settings.get("paths.root_dir", "."))
    return snapshot(arrow_table(data), Path(settings.get("paths.data_dir", root / "data")).absolute() / "frames")
