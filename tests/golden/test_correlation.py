"""Counts, mutual information and learned correlation of the released scripts."""

from pathlib import Path

import numpy as np
import pytest

from stemlab.analysis.correlation.ground_truth import RELEASED_SMOOTH, CorrelationCounts, scaled
from stemlab.analysis.correlation.learned import target_attention
from tests.conftest import GOLDEN, require

TRUTH = sorted((GOLDEN / "recscope").glob("correlation_groundtruth*.npz"))
LEARNT = sorted((GOLDEN / "recscope").glob("correlation_learned*.npz"))


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files if key != "meta/json"}


def counted(values: dict[str, np.ndarray], targets: np.ndarray, behaviours: np.ndarray) -> CorrelationCounts:
    """Return the counts of all three splits; item ids are shifted by one, because 0 is padding in stemlab."""
    categories = np.concatenate([[-1], values["input/item_category"]])
    positions = values["input/train_history_items"].shape[1]
    counts = CorrelationCounts(categories[:, None] == targets, categories[:, None] == behaviours, positions)
    for name, target, label in (
        ("train", "target", values["input/train_label"]),
        *((split, f"{kind}_target", kind == "pos") for split in ("eval", "test") for kind in ("pos", "neg")),
    ):
        history, lengths = values[f"input/{name}_history_items"] + 1, values[f"input/{name}_lengths"]
        labels = np.broadcast_to(label, len(history)).astype(int)
        counts.add(history, lengths, values[f"input/{name}_{target}"] + 1, labels)
    return counts


def test_files_exist(golden: Path) -> None:
    require(golden / "recscope")
    assert TRUTH
    assert LEARNT


@pytest.mark.parametrize("path", TRUTH, ids=lambda path: path.stem)
def test_every_count(path: Path) -> None:
    values = load(path)
    known = np.unique(values["input/item_category"])
    counts = counted(values, known, known)
    for label, letter in enumerate("np"):
        released = values[f"output/adj_{letter}_triples_and_counts"]
        there = np.argwhere(counts.with_TCPY[..., label])
        found = {(int(known[t]), int(known[c]), int(p) + 1): int(counts.with_TCPY[t, c, p, label]) for t, c, p in there}
        assert found == {(t, c, p): count for t, c, p, count in released.tolist()}
        np.testing.assert_array_equal(counts.total_TY[:, label], values[f"output/target_{letter}"][known])


@pytest.mark.parametrize("path", TRUTH, ids=lambda path: path.stem)
def test_mutual_information(path: Path) -> None:
    values = load(path)
    counts = counted(values, values["input/target_category"].reshape(1), values["input/history_categories"])
    raw = values["output64/mutual_information_raw"]
    found = counts.correlation(smooth=RELEASED_SMOOTH)[0, :, : raw.shape[1]]
    np.testing.assert_allclose(found, raw, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scaled(found), values["output64/mutual_information_minmax"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", LEARNT, ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", ["tin", "din", "din_plus"])
def test_learned(path: Path, kind: str) -> None:
    values = load(path)
    category = values[f"input/{kind}_category_embedding_top10"]
    position = values[f"input/{kind}_position_embedding_first11"][:, -category.shape[1] :]
    found = target_attention(kind, category, values[f"input/{kind}_category_embedding_target"], position)
    for name, ours in (
        ("attention_logits", found.logit_CP),
        ("value_norm", found.value_CP),
        ("attention_softmax", found.softmax()),
        ("correlation_raw", found.correlation("script")),
        ("correlation_minmax", scaled(found.correlation("script"))),
    ):
        np.testing.assert_allclose(ours, values[f"output64/{kind}_{name}"], rtol=2e-5, atol=2e-6, err_msg=name)
