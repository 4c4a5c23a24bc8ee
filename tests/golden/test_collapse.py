"""Spectra and information abundance of the released notebook, for each file of this kind."""

from pathlib import Path

import numpy as np
import pytest

from stemlab.analysis.collapse.projected_spectra import projected_abundance
from stemlab.analysis.collapse.spectra import (
    BlockwiseMatrix,
    information_abundance,
    normalised_spectrum,
    singular_values,
)
from stemlab.data.io.progress import ProgressBars
from tests.conftest import GOLDEN, require

FILES = sorted((GOLDEN / "recscope").glob("collapse_*.npz"))


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files if key != "meta/json"}


def fields_of(values: dict[str, np.ndarray]) -> list[np.ndarray]:
    return np.split(values["input/embedding_weight"], np.cumsum(values["input/field_dims"])[:-1])


def test_files_exist(golden: Path) -> None:
    assert len(list(require(golden / "recscope").glob("collapse_*.npz"))) == len(FILES) > 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("tall", [0, 4096], ids=["gram", "svd"])
def test_spectra(path: Path, tall: int) -> None:
    values = load(path)
    tables = fields_of(values)
    width = tables[0].shape[1]

    def spectrum(table: np.ndarray, normalised: bool) -> np.ndarray:
        return normalised_spectrum(singular_values(BlockwiseMatrix(table, normalised), tall=tall), width)

    raw = np.array([spectrum(table, False) for table in tables])
    np.testing.assert_allclose(raw, values["output/raw_spectrum_per_field_original_order"], atol=2e-6)
    order = values["output/argsort_field_dims"]
    np.testing.assert_array_equal(order, np.argsort([len(table) for table in tables], kind="stable"))
    normalised = np.array([spectrum(tables[field], True) for field in order])
    np.testing.assert_allclose(normalised, values["output/normalised_row_spectrum_sorted_by_vocab"], atol=2e-6)
    np.testing.assert_allclose(normalised.sum(1), values["output/information_abundance_sorted_by_vocab"], rtol=2e-6)
    found = [information_abundance(singular_values(BlockwiseMatrix(tables[field], True), tall=tall)) for field in order]
    np.testing.assert_allclose(found, values["output/information_abundance_sorted_by_vocab"], rtol=2e-6)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_interaction(path: Path) -> None:
    values = load(path)
    width = values["input/embedding_weight"].shape[1]
    count = len(values["input/field_dims"])
    weight = values["input/cross_W0"].reshape(count, width, count, width)
    tables = {str(field): table for field, table in enumerate(fields_of(values))}
    with ProgressBars() as steps:
        found = projected_abundance(
            "net", tables, lambda toward, source: weight[int(toward), :, int(source)], "l2", steps
        )
    order = values["output/argsort_field_dims"][values["output/argsort_of_ia"]]
    assert [int(field) for field in found.fields] == order.tolist()
    np.testing.assert_allclose(found.abundance_NN, values["output/ia_after_projection_resorted"], rtol=2e-5)
