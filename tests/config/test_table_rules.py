"""Rules of the embedding tables: which settings fit together."""

import pytest

from stemlab.config.compose import compose

BY_ROWS = "optim.tables=sparse_adam"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("optim.tables=sparse_adm",), ("sparse_adam", "rowwise_adagrad", "Did you mean")),
        (("optim.tables_lr=0.1",), ("optim.tables_lr=0.1", "dense_adam")),
        (("optim.tables=rowwise_adagrad", "optim.tables_bias_correction=false"), ("bias_correction", "sparse_adam")),
        ((BY_ROWS, "model.embedding_regularizer_mode=dense"), ("regularizer_mode=dense", "batch")),
    ],
)
def test_refused_settings(message, words, expected):
    found = message(*words)
    assert all(part in found for part in expected), found


@pytest.mark.parametrize(
    "words",
    [
        (BY_ROWS, "optim.tables_bias_correction=false", "optim.tables_lr=0.1"),
        ("optim.tables=rowwise_adagrad", "model.embedding_regularizer_mode=batch"),
        (BY_ROWS, "model.embedding_regularizer_mode=dense", "model.embedding_regularizer=0"),
    ],
)
def test_accepted_settings(message, words):
    assert message(*words) is None


@pytest.mark.parametrize(("rule", "mode"), [("dense_adam", "dense"), ("rowwise_adagrad", "batch")])
def test_the_rule_determines_the_default_of_the_penalty(rule, mode):
    config = compose("train", ["model=stem", f"optim.tables={rule}"])
    assert config["model"]["embedding_regularizer_mode"] == mode


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model=lightgcn", BY_ROWS), ("lightgcn", "all rows", "dense_adam")),
        (("model=sasrec", BY_ROWS, "optim.name=sgd"), ("optim.name=adam", "sgd")),
    ],
)
def test_refused_settings_of_sequential_models(words, expected):
    with pytest.raises(Exception, match=expected[0]) as error:
        compose("train", ["dataset=ml1m", *words])
    assert all(part in str(error.value) for part in expected)
