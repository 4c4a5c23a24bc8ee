"""Which embedding tables are divided among processes, and what that costs."""

import pytest
import torch

from stemlab.data.spec import SequenceSizes
from stemlab.errors import StemlabError
from stemlab.models import parameter_counts
from stemlab.models.ctr.ame import AME
from stemlab.models.multitask.shared_bottom import SharedBottom
from stemlab.models.sequential.bprmf import BPRMF
from stemlab.models.sequential.sasrec import SASRec
from stemlab.nn.sharded.layout import TableLayout
from stemlab.runs.footprint import reduction_warning, training_footprint
from stemlab.runs.table_lookups import row_gradient_bytes
from stemlab.runs.table_plan import plan_tables
from tests.conf_files import model_config

FIELDS = {"uid": 10_000, "item": 400, "city": 9}
WIDTH = 4


def config(embedding: str, devices: int = 2, batch_size: int = 100, **optim: str) -> dict:
    trainer = {"devices": devices, "embedding": embedding, "compile": False}
    model = {"name": "shared_bottom", "family": "multitask"}
    return {
        "trainer": trainer,
        "model": model,
        "optim": {"name": "adam", **optim},
        "dataset": {"batch_size": batch_size},
    }


def shared_bottom() -> SharedBottom:
    return SharedBottom(FIELDS, ["click"], embedding_dim=WIDTH, bottom_hidden_units=[4], tower_hidden_units=[4])


def test_auto_divides_tables_with_more_rows_than_a_process_looks_up() -> None:
    net = shared_bottom()
    plan = plan_tables(config("auto"), net)
    assert plan is not None
    assert plan.division == "row_sharded"
    assert plan.chosen == {net.embedding: [0, 1]}
    assert plan.parameters == 10_400 * WIDTH
    assert plan.rank_parameters == 5_200 * WIDTH
    assert plan.exchanged == 2 * 100 * (2 * 4 * WIDTH + 4) // 2
    assert plan_tables(config("auto", batch_size=10_000), net) is None
    assert plan_tables(config("auto", devices=1), net) is None
    assert plan_tables(config("auto", tables="sparse_adam"), net) is None


@pytest.mark.parametrize("embedding", ["row_sharded", "column_sharded"])
def test_half_of_the_memory_remains_on_each_of_two_ranks(embedding: str) -> None:
    net = shared_bottom()
    plan, counts = plan_tables(config(embedding), net), parameter_counts(net)
    one, both = training_footprint(config(embedding, 1), counts), training_footprint(config(embedding), counts, plan)
    assert both.embedding_total <= 0.51 * one.embedding_total
    assert (both.reduced_tables, both.reduced) == (0, 4 * counts["dense"])
    assert both.exchanged > 0


def test_a_warning_names_the_setting_if_gradients_of_tables_dominate() -> None:
    net = shared_bottom()
    footprint = training_footprint(config("replicated"), parameter_counts(net))
    warning = reduction_warning(footprint, plan_tables(config("replicated"), net, "row_sharded"))
    assert warning is not None
    assert "trainer.embedding=row_sharded" in warning
    large_batch = plan_tables(config("replicated", batch_size=100_000), net, "row_sharded")
    assert reduction_warning(footprint, large_batch) is None


@pytest.mark.parametrize("devices", [1, 3])
def test_tables_trained_by_rows_exchange_the_gradients_of_the_rows(devices: int) -> None:
    net, chosen = shared_bottom(), config("replicated", devices, tables="rowwise_adagrad")
    found = training_footprint(chosen, parameter_counts(net), None, row_gradient_bytes(chosen, net))
    assert found.exchanged == (devices - 1) * (100 + 100 + 9) * (8 + 4 * WIDTH)
    assert found.reduced == (0 if devices == 1 else 4 * found.dense)
    assert row_gradient_bytes(config("replicated", devices), net) == 0


def test_sequential_networks_exchange_rows_of_histories_and_candidates() -> None:
    sizes = SequenceSizes(users=40, items=2000, history_max=5)
    chosen = config("replicated", tables="sparse_adam") | {"dataset": {"batch_size": 50, "num_negatives": 3}}
    row = 8 + 4 * WIDTH
    assert row_gradient_bytes(chosen, SASRec(sizes, embedding_dim=WIDTH)) == 50 * (5 + 1 + 3) * row
    assert row_gradient_bytes(chosen, BPRMF(sizes, embedding_dim=WIDTH)) == (41 + 50 * (1 + 3)) * row


def test_impossible_divisions_are_refused() -> None:
    with pytest.raises(StemlabError, match="row_sharded"):
        plan_tables(config("column_sharded", devices=WIDTH + 1), shared_bottom())
    with pytest.raises(StemlabError, match="several processes"):
        plan_tables(config("row_sharded", devices=1), shared_bottom())
    with pytest.raises(StemlabError, match="Linear"):
        plan_tables(config("row_sharded"), torch.nn.Linear(1, 1))


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("rows", [1, 7, 9])
def test_parts_contain_every_value_once(rows: int, ranks: int) -> None:
    table_VW = torch.arange(1.0, rows * 5 + 1).view(rows, 5)
    layouts = [TableLayout("row_sharded", rank, ranks) for rank in range(ranks)]
    parts = [layout.part(table_VW) for layout in layouts]
    assert {len(part) for part in parts} == {layouts[0].local_rows(rows)}
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1)[:rows], table_VW)
    columns = [TableLayout("column_sharded", rank, ranks).part(table_VW) for rank in range(ranks)]
    assert torch.equal(torch.cat(columns, dim=1), table_VW)


def test_every_embedding_of_a_network_is_divided() -> None:
    settings = {key: value for key, value in model_config("ame")["net"].items() if key != "_target_"}
    net = AME(FIELDS, ["click"], **settings)
    plan = plan_tables(config("row_sharded"), net)
    assert plan is not None
    assert plan.parameters == parameter_counts(net)["embedding"]
