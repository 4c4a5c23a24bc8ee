"""Export the network of a checkpoint into a directory of its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

import stemlab
from stemlab.array_types import AnyArray
from stemlab.data.io.output_file import check_folder_name, write_errors
from stemlab.data.prepare.manifest import sha256_of
from stemlab.errors import StemlabError
from stemlab.inference.export import encode
from stemlab.inference.export.card import model_card
from stemlab.inference.export.formats import MODEL_FILES, ExportFormat, load_model, require_format, write_model
from stemlab.inference.export.graph import fixed_history, inputs_used, trace
from stemlab.inference.export.networks import ImpressionScores, SequenceScores, inputs_read
from stemlab.inference.export.subjects import Subject, subject_of
from stemlab.runs.restore import RebuiltRun

TOLERANCE = 1e-5
"""Largest difference between the scores of the file and of the checkpoint, relative to scores above 1."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        directory: the output directory.
        facts: content of its ``export.json``.
    """

    directory: Path
    facts: dict[str, Any]


class Exporter:
    """Export one checkpoint.

    Args:
        config: config of the command ``export``.
        run: the run of its checkpoint.

    Raises:
        StemlabError: the output directory has files, or a package that the format needs is missing.
    """

    def __init__(self, config: Mapping[str, Any], run: RebuiltRun) -> None:
        self._kind: ExportFormat = config["format"]
        self._output, self._run = Path(config["output"]), run
        check_folder_name(str(self._output), (".onnx", ".pt2", ".pt"))
        if self._output.exists() and not (self._output.is_dir() and not any(self._output.iterdir())):
            raise StemlabError(f"output={self._output} exists and is not an empty folder: give another folder.")
        require_format(self._kind)

    def run(self) -> Exported:
        """Write model, encoder, model card and ``export.json``; the directory appears only when it is complete.

        Raises:
            StemlabError: the run cannot be prepared or exported, or the file gives other scores than the checkpoint.
        """
        self._run.prepare()
        subject = subject_of(self._run)
        network = subject.network.eval()
        for name, parameter in network.named_parameters():
            if parameter.dtype != torch.float32:
                raise StemlabError(f"{self._run.saved.path}: {name} is {parameter.dtype}; only float32 is exported.")
        with _new_directory(self._output) as folder:
            facts = self._write(subject, network, folder)
        return Exported(self._output, facts)

    def _write(self, subject: Subject, network: ImpressionScores | SequenceScores, folder: Path) -> dict[str, Any]:
        width = fixed_history(network, subject.history_max)
        program, rules = _traced(subject, network, width)
        (folder / "encoder.json").write_text(json.dumps(rules, ensure_ascii=False), encoding="utf-8")
        shutil.copytree(Path(encode.__file__).parent, folder / "encode", ignore=shutil.ignore_patterns("__pycache__"))
        inputs: dict[str, AnyArray] = encode.load(folder / "encoder.json")(subject.rows)
        subject.check_encoding(inputs, rules["inputs"], folder)
        path = folder / MODEL_FILES[self._kind]
        written = write_model(self._kind, program, network.outputs, path)
        with torch.no_grad():
            expected = subject.scores({name: torch.from_numpy(values) for name, values in inputs.items()}).numpy()
        difference = self._compare(path, inputs, expected)
        facts = {
            "stemlab": stemlab.__version__,
            "format": self._kind,
            "model": self._run.config["model"]["name"],
            "dataset": self._run.saved.spec.name,
            "inputs": _described(program.example_inputs[1], width),
            "outputs": subject.described_outputs(),
            **written,
            "check": {"rows": len(expected), "largest_difference": difference},
        }
        card = model_card(self._run, facts)
        (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        facts["files"] = {
            file.relative_to(folder).as_posix(): {
                "bytes": file.stat().st_size,
                "sha256": sha256_of(file, lambda size: None),
            }
            for file in files
        }
        facts["checkpoint_sha256"] = sha256_of(self._run.saved.path, lambda size: None)
        (folder / "export.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        return facts

    def _compare(self, path: Path, inputs: Mapping[str, AnyArray], expected: AnyArray) -> float:
        """Return the largest difference of the scores of the file, for all rows and for the first one alone."""
        run = load_model(self._kind, path)
        first = {name: values[:1] for name, values in inputs.items()}
        differences = [
            np.abs(run(some)[0] - expected[: len(next(iter(some.values())))]).max(initial=0) for some in (inputs, first)
        ]
        worst = float(max(differences))
        if not worst <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0))):
            raise StemlabError(
                f"the scores of the exported file differ from those of {self._run.saved.path} by {worst:.2g}: nothing "
                "was written; please report the model and its settings."
            )
        return worst


def _traced(
    subject: Subject, network: ImpressionScores | SequenceScores, width: int | None
) -> tuple[ExportedProgram, dict[str, Any]]:
    """Return the graph and the content of ``encoder.json``, both with only the inputs on which the scores depend."""
    rules = {**subject.rules, **({} if subject.history_max == 0 else {"history_width": width})}
    names = [name for name in network.inputs if name in subject.available]
    names = inputs_read(network, _encoded(rules, names, subject.rows))
    while True:
        examples = _examples(_encoded(rules, names, subject.rows), width, subject.history_max)
        program = trace(network, examples, width, subject.history_max)
        used = inputs_used(program)
        if used == names:
            return program, {**rules, "inputs": names}
        names = used


def _encoded(rules: Mapping[str, Any], names: list[str], rows: Any) -> dict[str, torch.Tensor]:
    inputs = encode.encoder_of({**rules, "inputs": names})(rows)
    return {name: torch.from_numpy(values) for name, values in inputs.items()}


def _examples(tensors: Mapping[str, torch.Tensor], width: int | None, history_max: int) -> dict[str, torch.Tensor]:
    """Return the tensors with histories shorter than the longest: torch.export takes a largest size for a constant."""
    if width is not None or ("history" not in tensors and "time" not in tensors):
        return dict(tensors)
    short = {
        name: tensor[:, : history_max - 1].contiguous()
        for name, tensor in tensors.items()
        if name in ("history", "time")
    }
    if "length" in tensors:
        short["length"] = tensors["length"].clamp(max=history_max - 1)
    return {name: short.get(name, tensor) for name, tensor in tensors.items()}


def _described(examples: Mapping[str, torch.Tensor], width: int | None) -> list[dict[str, Any]]:
    """Return name, type and shape of the inputs; sizes that may vary have names."""
    second: dict[str, Any] = {"candidates": "candidates"}
    if width is None:
        second |= {"history": "history", "time": "history"}
    return [
        {
            "name": name,
            "type": str(tensor.dtype).removeprefix("torch."),
            "shape": ["batch", *([second.get(name, tensor.shape[1])] if tensor.dim() > 1 else [])],
        }
        for name, tensor in examples.items()
    ]


@contextmanager
def _new_directory(path: Path) -> Iterator[Path]:
    """Yield a folder beside ``path`` that is renamed to it at the end of the block, or deleted after an error."""
    part = path.absolute().with_name(f".{path.absolute().name}.part-{os.getpid()}")
    with write_errors(path):
        part.mkdir(parents=True)
    try:
        with write_errors(path):
            yield part
            part.rename(path.absolute())
    finally:
        shutil.rmtree(part, ignore_errors=True)
