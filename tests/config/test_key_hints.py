"""An unknown key is answered with the key that was meant, also by words of other code."""

import re
from pathlib import Path

import pytest

from stemlab.config.compose import CommandLine
from stemlab.config.key_hints import _RELEASED_NAMES, _WITHOUT_KEY
from stemlab.config.sweep import check_command_line
from stemlab.errors import StemlabError

ROOT = Path(__file__).resolve().parents[2]
TIMIREC = ("model=timirec", "dataset=ml1m")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("lr=0.1",), "'optim.lr'"),
        (("model.lr=0.1",), "'optim.lr'"),
        (("batch_size=32",), "'dataset.batch_size'"),
        (("patience=3",), "'callbacks.early_stop.patience'"),
        (("monitor=val/auc",), "'callbacks.early_stop.monitor' or 'callbacks.checkpoint.monitor'"),
        (("trainer.seed=1",), "'seed'"),
        (("epochs=3",), "'trainer.max_epochs'"),
        (("learning_rate=1e-3",), "'optim.lr'"),
        (("early_stop_patience=2",), "'callbacks.early_stop.patience'"),
        (("model=sasrec", "dataset=ml1m", "MAX_ITEM_LIST_LENGTH=50"), "'dataset.history_max'"),
        (("max_epoch=3",), "'trainer.max_epochs'"),
        (("embeding_dim=3",), "'model.net.embedding_dim'"),
        (("sede=1",), "'seed'"),
        (("trainer.max_epoch=3",), "'max_epochs'"),
        ((*TIMIREC, "model.net.K=4"), "'model.net.num_interests'"),
        ((*TIMIREC, "K=4"), "'model.net.num_interests'"),
        ((*TIMIREC, "temp=0.1"), "'model.net.temperature'"),
        ((*TIMIREC, "model.net.n_layers=2"), "'model.net.projection_layers'"),
        (("model=lightgcn", "dataset=ml1m", "n_layers=2"), "'model.net.num_layers'"),
        ((*TIMIREC, "add_pos=1"), "'model.net.position_embedding'"),
        ((*TIMIREC, "add_trm=1"), "'model.net.transformer'"),
        ((*TIMIREC, "+model.net.add_trm=1"), "'model.net.transformer'"),
        ((*TIMIREC, "regenerate=1"), "delete its directory"),
        (("gpu=0",), "trainer=gpu"),
    ],
)
def test_the_key_that_was_meant_is_named(words, hint):
    with pytest.raises(StemlabError, match=re.escape(hint)):
        check_command_line(CommandLine("train", words))


@pytest.mark.parametrize("word", ["model.net.K=4", "zzz=1", "model.qqq=1"])
def test_no_hint_names_a_setting_that_the_config_lacks(word):
    with pytest.raises(StemlabError, match="Known") as caught:
        check_command_line(CommandLine("train", ("model=stem", word)))
    assert "num_interests" not in str(caught.value)
    assert "Did you mean" not in str(caught.value)


def test_the_names_of_the_released_code_are_those_of_the_document():
    text = (ROOT / "docs" / "methods" / "timirec.md").read_text()
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `")]
    words = re.findall(r"`(\w+)`", " ".join(cell for row in rows for cell in (row[0], row[1])))
    for name in ("K", "temp", "n_layers", "add_pos", "add_trm", "regenerate"):
        assert name in words
        assert name in _RELEASED_NAMES or name in _WITHOUT_KEY
