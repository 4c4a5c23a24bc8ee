"""Time that the parts of TiMiRec's training step need at least with the operators of PyTorch, beside the whole step.

    python scripts/bench/sequence_floor.py [--rounds 20] [--published DIR]

DIR is a checkout of ReChorus (docs/benchmarks.md); without it, its plain twin is the baseline. Sizes are those of
``sequence_step.py``. CPU time, one thread, one process with the memory setting of the trainer; variants take turns:

- ``products``: every matrix product of the forward and the backward pass, into allocated memory; products of the input
  run on the unique items of the batch.
- ``optimiser``: the step of the fused Adam on the gradients of all parameters.
- ``operators``: one operator for each function that is not a product: layer norm, softmax, activations, lookups, sums.
- whole steps of stemlab, of the twin and of the published code.

A row divides the time of the baseline by that of some parts. Products and optimiser bound the speed of every
implementation with these products, all parts that of one that calls one operator after the other. Writes
``results/sequence_floor.json`` (``--output`` for another).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import sequence_step
import timing
import torch
from torch import Tensor

from stemlab.models.sequential.timirec import TiMiRec
from stemlab.nn.kernels.embedding_lookup import UniqueEmbeddings, look_up_history, row_gradients, sum_rows
from stemlab.optim import RankingOptimConfig, build_ranking_optimizer
from stemlab.runs.allocator import keep_freed_memory

B, L, D, A, K = sequence_step.BATCH, sequence_step.SIZES.history_max, 64, 8, 2
T, ROWS = B * L, sequence_step.SIZES.items + 1
BINARY = 12  # of the forward (2) and the backward pass (10) of a step of the GRU, after its products
Part = Callable[[], object]
aten: Any = torch.ops.aten


def product(form: str, rows: int, inner: int, columns: int, batch: int = 0) -> Part:
    """Return a product whose operands are stored as ``form`` says: ``n`` as they are, ``t`` transposed."""
    lead = (batch,) if batch else ()
    operands = [torch.randn(*lead, rows, inner), torch.randn(*lead, inner, columns)]
    for number, stored in enumerate(form):
        if stored == "t":
            operands[number] = operands[number].transpose(-1, -2).contiguous().transpose(-1, -2)
    return partial(torch.matmul, *operands, out=torch.empty(*lead, rows, columns))


def extractor_products(U: int) -> list[Part]:
    """Return the products of projection, attention, feed-forward layers, head and pooling; U unique items."""
    forms = [("nt", U, D, 2 * D), ("nn", U, 2 * D, D), ("tn", 2 * D, U, D)]
    forms += [(form, rows, D, D) if form != "tn" else (form, D, T, D) for form in ("nt", "nn", "tn") for rows in (T, T)]
    forms += [("nt", A, D, T), ("nn", K, A, T), ("tn", A, K, T), ("tn", T, A, D), ("nn", A, T, D), ("nt", K, T, A)]
    batched = [("nt", L, D, L), ("nn", L, L, D), ("nt", L, D, L), ("tn", L, L, D), ("tn", L, L, D), ("nn", L, L, D)]
    batched += [("nn", K, L, D), ("tn", L, K, D), ("nt", K, D, L)]
    return [*(product(*form) for form in forms), *(product(*form, batch=B) for form in batched)]


def predictor_products(U: int) -> list[Part]:
    """Return the products of the GRU (three parts) and of the projection."""
    forms = 3 * [("nt", U, D, D), ("nn", U, D, D), ("tn", D, U, D), ("tn", D, T, D)]
    recurrence = (3 * L + 1) * [product("nt", B, D, D), product("nn", B, D, D)]
    return [*(product(*form) for form in forms), *recurrence, product("tn", D, B, D)]


def lookup_operators(table: Tensor, ids: Tensor, gradient_UD: Tensor) -> list[Part]:
    """Return lookup and gradient of the unique ids of one table."""
    zeros = torch.empty_like(table)
    return [partial(torch.index_select, table, 0, ids), lambda: zeros.zero_().index_add_(0, ids, gradient_UD)]


def extractor_operators(history_BL: Tensor) -> list[Part]:
    """Return all other functions of the extractor."""
    table = torch.randn(ROWS, D)
    items, _ = look_up_history(table, history_BL)
    assert isinstance(items, UniqueEmbeddings)
    assert items.id_U is not None
    U = len(items.row_UD)
    index_TN = torch.stack([items.index.flatten(), torch.randint(U, U + L, (T,))], dim=1)
    x_TD, grad_TD, score_BLL, unit = torch.randn(T, D), torch.randn(T, D), torch.randn(B, L, L), torch.ones(D)
    norm_TD, mean, scale = torch.native_layer_norm(x_TD, (D,), unit, unit, 1e-5)
    norm = partial(torch.native_layer_norm, x_TD, (D,), unit, unit, 1e-5)
    norm_back = partial(aten.native_layer_norm_backward, grad_TD, x_TD, (D,), mean, scale, unit, unit, [True] * 3)
    return [
        lambda: look_up_history(table, history_BL),
        *lookup_operators(table, items.id_U, torch.randn(U, D)),
        *(partial(sum_rows, torch.randn(U + L + 1, width), index_TN) for width in (D, 2 * D)),
        partial(row_gradients, [grad_TD] * 3, index_TN, U + L + 1),
        *(2 * [norm, norm_back]),
        partial(torch.softmax, score_BLL, 2),
        partial(aten._softmax_backward_data, score_BLL, score_BLL.softmax(2), 2, torch.float32),
        partial(torch.relu_, norm_TD),
        partial(aten.threshold_backward.grad_input, grad_TD, x_TD, 0, grad_input=grad_TD),
        *(2 * [partial(grad_TD.add_, x_TD, alpha=1e-9)]),  # residuals
    ]


def predictor_operators(history_BL: Tensor) -> list[Part]:
    """Return all other functions of the GRU."""
    table = torch.randn(ROWS, D)
    items, _ = look_up_history(table, history_BL)
    assert isinstance(items, UniqueEmbeddings)
    assert items.id_U is not None
    U, index_T = len(items.row_UD), items.index.t().flatten()
    gate_2LBD, value_VLBD = torch.randn(2, L, B, D), torch.ones(BINARY + 3, L, B, D)  # products of ones stay normal
    recurrence: list[Part] = []
    for step in range(L):
        recurrence += [gate_2LBD[:, step].sigmoid_, value_VLBD[0, step].tanh_]
        values = value_VLBD[1:, step].unbind()
        recurrence += [
            partial(torch.mul, *values[number : number + 2], out=values[number + 2]) for number in range(BINARY)
        ]
    return [
        *lookup_operators(table, items.id_U, torch.randn(U, D)),
        *(3 * [partial(torch.index_select, torch.randn(U, D), 0, index_T)]),
        partial(row_gradients, list(torch.randn(3, T, D)), index_T.unsqueeze(1), U),
        *recurrence,
    ]


def run(parts: list[Part]) -> None:
    with torch.no_grad():
        for part in parts:
            part()


def optimiser(stage: str) -> Part:
    net = TiMiRec(sequence_step.SIZES, stage=stage, projection_layers=2)  # type: ignore[arg-type]
    adam = build_ranking_optimizer(net, RankingOptimConfig(lr=sequence_step.LR, l2=sequence_step.L2))
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    return adam.step


def measure(stage: str, rounds: int, folder: Path | None) -> timing.Seconds:
    """Return CPU seconds of the parts and of the whole steps, one value per round."""
    torch.manual_seed(0)
    history_BL = sequence_step.make_batch().history_BL
    U = len(history_BL.unique())
    products, operators = extractor_products(U), extractor_operators(history_BL)
    if stage == "finetune":
        products += predictor_products(U)
        operators += predictor_operators(history_BL)
    acts: dict[str, Part] = {
        "products": partial(run, products),
        "optimiser": optimiser(stage),
        "operators": partial(run, operators),
        "stemlab": sequence_step.make_step(stage, True),
        "twin": sequence_step.make_step(stage, False),
    }
    if folder is not None:
        acts["published"] = sequence_step.published_step(stage, folder)
    return timing.alternate(acts, rounds, calls=2)[1]


def rows(stage: str, seconds: timing.Seconds) -> list[dict[str, Any]]:
    """Return the rows of the table of one stage."""
    code = "published" if "published" in seconds else "twin"
    sums = {"products and optimiser": ("products", "optimiser")}
    sums["products, optimiser and all other operators"] = ("products", "optimiser", "operators")
    sums["step of stemlab"] = ("stemlab",)
    found = []
    for what, parts in sums.items():
        total = [sum(values) for values in zip(*(seconds[part] for part in parts), strict=True)]
        ratio = timing.paired_ratio(seconds[code], total)
        found.append(timing.row(f"TiMiRec, {stage}: {what}, CPU time", sequence_step.BASELINES[code], ratio))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--published", type=Path, metavar="DIR", help="checkout of ReChorus; default: a plain twin")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "sequence_floor.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    result: dict[str, Any] = {"machine": timing.machine(1), "batch": B, "rounds": arguments.rounds, "rows": []}
    for stage in sequence_step.STAGES:
        seconds = measure(stage, arguments.rounds, arguments.published)
        result["rows"] += rows(stage, seconds)
        result[stage] = {"cpu_seconds": {name: timing.spread(values) for name, values in seconds.items()}}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
