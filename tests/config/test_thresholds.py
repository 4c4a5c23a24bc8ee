"""``fail_if``: evaluation, messages, and refused conditions."""

from typing import Any

import pytest

from stemlab.analyze import analyze
from stemlab.config.compose import compose
from stemlab.config.thresholds import (
    ThresholdError,
    check_conditions,
    check_sections,
    parse_condition,
    parse_conditions,
    values_at,
)
from stemlab.errors import StemlabError

RUNS = {
    "stem": {"mean_abundance": {"l2": 2.5, "none": 3.0}, "tables": [{"field": "uid", "role": "shared", "rank": 4}]},
    "single_task like": {"mean_abundance": {"l2": 7.0, "none": None}, "at 1.5": 1, "tables": []},
}
RESULTS: dict[str, Any] = {
    "sections": {
        "collapse": {"numbers": {"row_norm": "l2", "runs": RUNS, "points": [5, 6]}},
        "demo": {"numbers": {"found": False}},
    },
    "refused": {"transfer": "transfer needs a single-task run."},
}


def check(*texts: str) -> None:
    check_conditions(parse_conditions(list(texts)), RESULTS)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("collapse.runs.stem.mean_abundance.l2", {"collapse.runs.stem.mean_abundance.l2": 2.5}),
        (
            "collapse.runs.*.mean_abundance.l2",
            {
                "collapse.runs.stem.mean_abundance.l2": 2.5,
                "collapse.runs.single_task like.mean_abundance.l2": 7.0,
            },
        ),
        ("*.runs.*.mean_abundance.none", {"collapse.runs.stem.mean_abundance.none": 3.0}),
        ("collapse.runs.single_task like.at 1.5", {"collapse.runs.single_task like.at 1.5": 1.0}),
        *(
            (f"collapse.runs.stem.tables.{name}.rank", {"collapse.runs.stem.tables.uid shared.rank": 4.0})
            for name in ("uid", "shared", "uid shared", "0", "*")
        ),
        ("collapse.points.1", {"collapse.points.1": 6.0}),
        ("demo.found", {"demo.found": 0.0}),
    ],
)
def test_values_of_a_path(path: str, values: dict[str, float]) -> None:
    assert values_at(parse_condition(f"{path} < 0"), RESULTS) == values


@pytest.mark.parametrize(("operation", "below", "at", "above"), [("<", 1, 0, 0), ("<=", 1, 1, 0), (">", 0, 0, 1)])
def test_operations(operation: str, below: int, at: int, above: int) -> None:
    one = parse_condition(f"a.b{operation}-2.5e1")
    assert (one.path, one.operation, one.threshold) == ("a.b", operation, -25.0)
    assert [one.holds(value) for value in (-25.1, -25.0, -24.9)] == [below, at, above]
    assert parse_condition("a.b >= 1").holds(1)
    assert not parse_condition("a.b >= 1").holds(0.9)


def test_message_has_path_value_and_threshold_of_every_condition_that_holds() -> None:
    check("collapse.runs.*.mean_abundance.l2 < 2.5", "collapse.points.0 > 5", "demo.found > 0")
    with pytest.raises(ThresholdError) as held:
        check("collapse.runs.*.mean_abundance.l2 <= 7", "collapse.points.0 > 5", "demo.found < 1")
    assert held.value.status == 3
    assert held.value.held == ("collapse.runs.*.mean_abundance.l2 <= 7", "demo.found < 1")
    assert str(held.value) == (
        "fail_if 'collapse.runs.*.mean_abundance.l2 <= 7' holds: collapse.runs.stem.mean_abundance.l2 is 2.5, "
        "collapse.runs.single_task like.mean_abundance.l2 is 7. fail_if 'demo.found < 1' holds: demo.found is 0."
    )
    with pytest.raises(ThresholdError, match=r"holds: collapse.runs.single_task like.*is 7, collapse.runs.stem"):
        check("collapse.runs.*.mean_abundance.l2 > 2")  # the most extreme first


def test_message_lists_at_most_five_values() -> None:
    results = {"sections": {"a": {"numbers": {f"k{n}": n for n in range(8)}}}, "refused": {}}
    with pytest.raises(ThresholdError, match=r"a\.k7 is 7, .*a\.k3 is 3, 2 more"):
        check_conditions(parse_conditions("a.* > 0"), results)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("collapse.runs.stm.tables.0.rank < 1", "there is no 'stm' in collapse.runs; nearest: stem, single_task like."),
        ("collapse.runs.*.mean_abundance.l3 < 1", "there is no 'l3' in collapse.runs.stem.mean_abundance; nearest: l2"),
        ("collapse.runs.stem.mean_abundance < 1", "stem.mean_abundance is not a number; its keys: l2, none."),
        ("collapse.row_norm < 1", "collapse.row_norm is 'l2'"),
        ("collapse.points.0.x < 1", "collapse.points.0 is 5; it has no keys"),
        ("collapse.runs.single_task like.mean_abundance.none > 1", "none is undefined in these results"),
        ("collapse.runs.single_task like.tables.uid.rank > 1", "tables is empty; it has no keys"),
        ("transfer.tasks.x < 1", "transfer was left out: transfer needs a single-task run."),
        ("collapze.runs < 1", "there is no 'collapze' in results.json; nearest: collapse"),
    ],
)
def test_unknown_path_is_refused(text: str, message: str) -> None:
    with pytest.raises(StemlabError) as refused:
        check(text, "demo.found < 1")
    assert refused.value.status == 2
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"fail_if '{text}': ")
    assert str(refused.value).endswith("fail_if 'demo.found < 1' holds: demo.found is 0.")


@pytest.mark.parametrize(
    "text", ["collapse.runs", "collapse < 3", "collapse. < 3", "a.b = 3", "a.b < three", "a.b < nan", "a..b < 3", "< 3"]
)
def test_wrong_syntax_is_refused_before_runs_are_searched(text: str) -> None:
    with pytest.raises(StemlabError) as refused:
        compose("analyze", [f"fail_if=['{text}']", "run=nowhere"])
    assert str(refused.value).startswith(f"fail_if.0='{text}' (set on the command line) must be a condition <path> ")
    with pytest.raises(StemlabError, match=r"^fail_if='"):
        compose("analyze", [f"fail_if='{text}'"])


def test_unknown_section_is_refused_before_runs_are_searched() -> None:
    words = ["run=nowhere", "fail_if='collapze.runs.*.mean_abundance.l2 < 3'"]
    with pytest.raises(StemlabError, match=r"collapse, not 'collapze'. Did you mean 'collapse'\?$"):
        analyze(compose("analyze", words))
    with pytest.raises(StemlabError, match="collapse or entanglement or correlation or comparable or transfer or inte"):
        analyze(compose("analyze", [*words, "analysis=report"]))
    with pytest.raises(StemlabError, match="run=nowhere"):
        analyze(compose("analyze", ["run=nowhere", "analysis=report", "fail_if='transfer.x < 3'"]))


def test_star_is_any_section() -> None:
    check_sections([parse_condition("*.found < 1")], ["collapse"])
    with pytest.raises(StemlabError, match="collapse, not 'demo'"):
        check_sections([parse_condition("demo.found < 1")], ["collapse"])
