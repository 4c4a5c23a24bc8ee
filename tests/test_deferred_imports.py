"""A training starts without dependencies that it does not use; what is deferred works once it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from stemlab.deferred_imports import defer_imports

UNUSED = (
    *("matplotlib", "scipy", "pandas", "sympy", "sklearn", "faiss", "tensorboard", "wandb", "hypothesis"),
    *("torch._dynamo.utils", "torch._inductor.standalone_compile", "torch.distributed.fsdp"),
    "torch.distributed.tensor",
)
PROGRAM = """
import json, sys
from stemlab.deferred_imports import defer_imports
defer_imports()
import stemlab.train
import stemlab.runs.stages
from stemlab.config.compose import compose
from stemlab.runs.loggers import build_loggers

config = compose("train", ["model=stem", "dataset=tiktok"])
build_loggers(config, "never", sample=True, sweep_id=None)

import torch
from torch import nn

def step():
    optimizer.zero_grad()
    (weight * torch.arange(3.0)).sum().backward()
    optimizer.step()
    return weight.tolist()

torch.use_deterministic_algorithms(True)
weight = nn.Parameter(torch.zeros(3))
optimizer = torch.optim.Adam([weight], lr=0.5)
one = step()
imported = [name for name in sys.argv[1:] if name in sys.modules]

from pytorch_lightning.utilities.compile import OptimizedModule
import torch._dynamo.utils as dynamo_utils  # a submodule first: its package is executed before it
compiled = torch.compile(nn.Linear(2, 2), backend="eager")
compiled(torch.ones(1, 2))
print(json.dumps({
    "imported": imported,
    "weights": [one, step()],
    "once": dynamo_utils is torch._dynamo.utils is sys.modules["torch._dynamo.utils"],
    "compiled": [isinstance(compiled, OptimizedModule), isinstance(nn.Linear(2, 2), OptimizedModule)],
    "deterministic": torch._inductor.config.deterministic,
    "loaded": type(sys.modules["torch._dynamo"]).__name__,
}))
"""


@pytest.mark.process
def test_unused_dependencies_are_deferred_and_work_later(tmp_path):
    environment = {"PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    words = [sys.executable, "-c", PROGRAM, *UNUSED]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["imported"] == []
    assert found["weights"] == [pytest.approx([0, -0.5, -0.5]), pytest.approx([0, -1, -1])]
    assert found["once"] is True
    assert found["compiled"] == [True, False]
    assert found["deterministic"] is True
    assert found["loaded"] == "module"


def test_nothing_is_deferred_where_torch_is_imported():
    import torch

    assert torch
    finders = list(sys.meta_path)
    defer_imports()
    assert sys.meta_path == finders
