"""Write a traced network in a file format, and run the file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.export import ExportedProgram

from stemlab.array_types import AnyArray
from stemlab.errors import StemlabError
from stemlab.inference.export.quiet import quiet

ExportFormat = Literal["onnx", "torchexport", "aoti"]
MODEL_FILES: dict[str, str] = {"onnx": "model.onnx", "torchexport": "model.pt2", "aoti": "model.pt2"}
ModelFunction = Callable[[Mapping[str, AnyArray]], list[AnyArray]]


def require_format(kind: ExportFormat) -> None:
    """Raise StemlabError if a package or compiler that the format needs is missing."""
    if kind == "onnx":
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ModuleNotFoundError as error:
            raise StemlabError(f"format=onnx needs {error.name}: pip install 'stemlab[export]'.") from None
    elif kind == "aoti":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            raise StemlabError(
                "format=aoti compiles C++ code and found no compiler: install g++ (or set CXX), or use format=onnx."
            ) from None


def write_model(kind: ExportFormat, program: ExportedProgram, outputs: Sequence[str], path: Path) -> dict[str, Any]:
    """Write the network to a file.

    Args:
        kind: format of the file.
        program: the traced network.
        outputs: names of its results.
        path: the file; weights above 2 GB of ONNX are written to a second file beside it.

    Returns:
        Facts for ``export.json``: the operator set of ONNX, and the version of PyTorch.
    """
    facts: dict[str, Any] = {"torch": torch.__version__}
    with quiet():
        if kind == "onnx":
            model = torch.onnx.export(program, output_names=list(outputs), dynamo=True, verbose=False)
            assert model is not None
            model.save(path)
            facts["opset"] = int(model.model.opset_imports[""])
        elif kind == "torchexport":
            content = io.BytesIO()  # on a full disk, PyTorch would abort the process
            torch.export.save(program, content)
            path.write_bytes(content.getbuffer())
        else:
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return facts


def load_model(kind: ExportFormat, path: Path) -> ModelFunction:
    """Return a function that runs the file: input name -> array to the outputs in order."""
    if kind == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda inputs: list(session.run(None, dict(inputs)))
    with quiet():
        aoti = kind == "aoti"
        model: Any = torch._inductor.aoti_load_package(str(path)) if aoti else torch.export.load(path).module()

    def run(inputs: Mapping[str, AnyArray]) -> list[AnyArray]:
        with torch.no_grad():
            result = model(**{name: torch.from_numpy(values) for name, values in inputs.items()})
        return [tensor.numpy() for tensor in (result if isinstance(result, tuple | list) else (result,))]

    return run
