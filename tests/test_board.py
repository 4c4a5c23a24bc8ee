"""scripts/board.py trains each run once; docs/board.md has the tables of its records."""

import importlib
import sys
from types import SimpleNamespace

import pytest
import yaml

DATA = "1\t2\t5\t0\n1\t1\t4\t0\n2\t1\t3\t0\n"
USERS = "1|24|M|technician|85711\n2|53|F|other|94043\n"
ITEMS = "1|Toy Story (1995)|01-Jan-1995||url|0|0|0|1|1|1" + "|0" * 13 + "\n2|unknown||||1" + "|0" * 18 + "\n"


@pytest.fixture
def board(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    return importlib.import_module("board")


@pytest.fixture
def definition(board):
    return yaml.safe_load(board.DEFINITION.read_text())


def record(run, value):
    return {"seed": run.seed, "model": run.network, "best": {"value": value}}


def train_all(board, seeds, value_of):
    done = []
    for run, role in board.missing(["kuairand_log"], seeds):
        board.add(run, role, record(run, value_of(run)))
        done.append((run.network, run.task, run.seed, role))
    return done


def test_runs_are_trained_once_and_trials_choose_the_settings(board, definition, tmp_path):
    definition["datasets"]["kuairand_log"]["networks"] = ["single_task", "stem"]
    trials = definition["trials"]["impressions"]
    best = {"single_task": trials[1], "stem": trials[2]}

    def value_of(run):
        # the first task alone is better with the first trial; the mean of the tasks is not
        return 0.9 if run.trial == best[run.network] else 0.95 if run.task == "is_click" else 0.5

    first = train_all(board.Board(definition, tmp_path), [1, 2], value_of)
    assert [done[3] for done in first].count("trial") == len(trials) * (4 + 1)
    assert [done[2:] for done in first].count((2, "result")) == 4 + 1
    again = board.Board(definition, tmp_path)  # reads the records
    assert train_all(again, [1, 2], value_of) == []
    results = {(r["model"], r["seed"]) for (role, _), r in again.finished("kuairand_log").items() if role == "result"}
    assert results == {("single_task", 1), ("stem", 1), ("single_task", 2), ("stem", 2)}
    for network in best:
        assert again.chosen("kuairand_log", network)[0].trial == best[network]
    assert len(train_all(again, [3], value_of)) == 4 + 1


def test_later_seeds_wait_for_the_trials(board, definition, tmp_path):
    assert list(board.Board(definition, tmp_path).missing(["kuairand_log"], [2])) == []


def test_every_network_has_the_same_widths_and_trials(board, definition, tmp_path):
    plan = board.Board(definition, tmp_path)
    for dataset, one in definition["datasets"].items():
        for network in one["networks"]:
            groups = plan.trials(dataset, network)
            assert len(groups) == (1 if network == "pop" else len(definition["trials"][one["kind"]]))
            width = definition["widths"][one["width"]]
            net = {key: value for key, value in groups[0][0].settings.items() if key.startswith("model.net.")}
            if network not in ("ame", "pop"):
                assert net["model.net.embedding_dim"] == width["embedding_dim"]
            hidden = [value for key, value in net.items() if key.endswith("hidden_units")]
            assert all(value in ([64], []) for value in hidden)
    assert {name for line in definition["order"] for name in line["datasets"]} == set(definition["datasets"])
    keys = [run.key for run, _ in plan.missing(list(definition["datasets"]), [1])]
    assert len(keys) == len(set(keys))


def test_movielens_100k_with_two_tasks(root, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    board_data = importlib.import_module("board_data")
    for name, text in {"u.data": DATA, "u.user": USERS, "u.item": ITEMS}.items():
        (tmp_path / name).write_text(text)
    board_data.write_ml100k(tmp_path, tmp_path / "out" / "table.csv")
    assert (tmp_path / "out" / "table.csv").read_text().split() == [
        "user_id,item_id,gender,age,age_group,occupation,zip3,genre,year,like,love",
        "1,2,M,24,under_25,technician,857,0,0,1,1",
        "1,1,M,24,under_25,technician,857,3,1995,1,0",
        "2,1,F,53,35_and_over,other,940,3,1995,0,0",
    ]


def test_a_dataset_with_first_results_gets_a_section(root, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    board_page = importlib.import_module("board_page")
    page = tmp_path / "board.md"
    page.write_text(f"# Board\n\n{board_page.LAST}\n")
    for _ in range(2):
        board_page.add_sections(page, ["planted_0", "ml100k"])
        assert [line for line in page.read_text().splitlines() if line.startswith(("#", "<!-- table"))] == [
            "# Board",
            "## SAMPLE: no conflict",
            "<!-- table:board_planted_0 -->",
            "<!-- table:board_planted_0_differences -->",
            "## MovieLens-100K, next item",
            "<!-- table:board_ml100k -->",
            "<!-- table:board_ml100k_differences -->",
            board_page.LAST,
        ]


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["worse 1/2", "worse 2/2"], ["a (1/2), b (2/2)", "each network is worse"]),
        (["**best**", "worse 1/2"], ["b (1/2)", "a is the best"]),
        (["**best**", "not worse"], ["no difference is significant"]),
    ],
)
def test_the_networks_of_a_table_in_one_sentence(root, monkeypatch, verdicts, words):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    board_page = importlib.import_module("board_page")
    monkeypatch.setattr(board_page, "verdict", lambda table, row: verdicts[row])
    rows = [SimpleNamespace(labels={"model": name}, seeds=[1, 2]) for name in "ab"]
    sentence = board_page._in_short(SimpleNamespace(rows=rows))
    assert all(word in sentence for word in ["2 seeds", *words])


def test_the_page_has_the_tables_of_the_records(root, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["board_page.py", "--check"])
    assert importlib.import_module("board_page").main() == 0, capsys.readouterr().err
