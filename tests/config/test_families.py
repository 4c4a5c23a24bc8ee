"""The model selects optimiser, callbacks and epochs; models and datasets of different families are refused."""

import pytest

from stemlab.config.compose import CommandLine, compose
from stemlab.config.cross_checks import effective_stage
from stemlab.config.sweep import check_command_line
from stemlab.errors import StemlabError
from stemlab.runs.build import require_gpu
from stemlab.runs.stage_cache import first_stage_config, first_stage_hash
from stemlab.runs.stages import check_first_stage

SEQUENCE = ("model=timirec", "dataset=ml1m")


def refusal(*words, multirun=False):
    with pytest.raises(StemlabError) as caught:
        check_command_line(CommandLine("train", words, multirun))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sequential_model_selects_optimiser_callbacks_and_epochs():
    config = compose("train", SEQUENCE)
    tables = {"tables": "dense_adam", "tables_lr": None, "tables_bias_correction": True}
    unset = {
        "lr_groups": {"tables": None, "gates": None, "dense": None},
        "schedule": {**dict.fromkeys(("name", "total_steps", "step_size")), "warmup_steps": 0, "final_factor": 0.0}
        | {"gamma": 0.1},
        **dict.fromkeys(("weight_decay", "momentum", "ema")),
    }
    assert config["optim"] == {"name": "adam", "lr": 1e-3, "l2": 0.0, **tables, **unset}
    stop, best = config["callbacks"]["early_stop"], config["callbacks"]["checkpoint"]
    assert (stop["monitor"], stop["window"], stop["patience"]) == ("val/ndcg@5", 10, 20)
    assert (best["monitor"], config["objective"], config["trainer"]["max_epochs"]) == ("val/ndcg@5", "val/ndcg@5", 200)


def test_multitask_model_has_the_default_groups():
    config = compose("train", [])
    assert config["model"]["family"] == "multitask"
    assert config["optim"]["clip_norm"] == 10.0
    assert config["callbacks"]["early_stop"]["patience"] == 1
    assert (config["objective"], config["trainer"]["max_epochs"]) == ("val/auc", 20)


def test_command_line_overrides_the_groups_selected_by_the_model():
    words = ["trainer.max_epochs=3", "callbacks.checkpoint.monitor=val/hr@10", "optim.l2=0.5", "trainer=ddp_cpu"]
    config = compose("train", [*SEQUENCE, *words])
    assert (config["trainer"]["max_epochs"], config["optim"]["l2"]) == (3, 0.5)
    assert config["objective"] == "val/hr@10"
    longer = compose("train", [*SEQUENCE, "model.max_epochs=7"])
    assert longer["trainer"]["max_epochs"] == 7


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model=stem", "dataset=ml1m"), "model=stem and dataset=ml1m do not fit: a multitask model"),
        (("model=sasrec", "dataset=tiktok"), "model=sasrec and dataset=tiktok do not fit: a sequential model"),
        (("model=sasrec",), "dataset=ml1m or grocery, or another model."),
        (("dataset=ml1m",), "dataset=tiktok, or another model."),
        ((*SEQUENCE, "optim=adam"), "sequential model: set optim=ranking."),
        (("model=stem", "optim=ranking"), "multitask model: set optim=adam."),
        (
            (*SEQUENCE, "callbacks=default"),
            "callbacks.checkpoint.monitor='val/auc' (set in conf/callbacks/default.yaml)",
        ),
        (
            (*SEQUENCE, "dataset.evaluation.topk=[10,20]"),
            "must be one of val/hr@10, val/hr@20, val/ndcg@10, val/ndcg@20, val/mrr; dataset.evaluation.topk is [10,",
        ),
        (
            (*SEQUENCE, "callbacks.early_stop.monitor=val/ndcg@10"),
            "must be one of val/hr@5, val/ndcg@5, val/mrr; dataset.evaluation.topk is [5, 10, 20, 50].",
        ),
        ((*SEQUENCE, "dataset.batch_size=10000000000000000000000"), "must be less than 2147483648."),
        (("model=stem", "dataset.batch_size=10000000000000000000000"), "must be less than 2147483648."),
        ((*SEQUENCE, "dataset.residence=device"), "dataset.residence=device (set on the command line) needs a GPU"),
        (("model=stem", "dataset.residence=host"), "trainer=cpu"),
        (("model=stem", "trainer=gpu", "dataset.residence=gpu"), "must be one of auto, device, host"),
        (
            ("model=stem", "trainer=gpu", "dataset.residence=device", "dataset.reading=blocks"),
            "dataset.reading=blocks (set on the command line)",
        ),
        (("model=stem", "dataset.reading=mapped"), "must be one of auto, memory, blocks"),
        ((*SEQUENCE, "dataset.reading=blocks"), "dataset.reading"),
        ((*SEQUENCE, "dataset.evaluation.topk=[5,10,5]"), "must be a list of different cut-offs."),
        ((*SEQUENCE, "dataset.evaluation.topk=[5,10000000000000000000000]"), "dataset.evaluation.topk"),
        ((*SEQUENCE, "dataset.evaluation.topk=[5,2000]"), "2000 is above the number of negatives of a sample, 1000"),
        ((*SEQUENCE, "callbacks.checkpoint.monitor=test/mrr"), "must be a validation metric, such as 'val/ndcg@5'."),
        ((*SEQUENCE, "objective=val/ndcg@7"), "objective='val/ndcg@7' (set on the command line) must be one of"),
        ((*SEQUENCE, "objective=test/mrr", "test=false"), "needs test=true."),
        ((*SEQUENCE, "model.stage=pretran"), "must be one of both, pretrain, finetune. Did you mean 'pretrain'?"),
        (("model=sasrec", "dataset=ml1m", "+model.stage=pretrain"), "model.stage (set on the command line) is not"),
        (("model=sasrec", "dataset=ml1m", "model.stage=pretrain"), "model.stage (set on the command line) is not"),
        ((*SEQUENCE, "model.stage=pretrain", "model.init_from=x"), "set model.stage=finetune."),
        ((*SEQUENCE, "model.allow_scratch=true"), "model.stage=finetune and without model.init_from."),
        ((*SEQUENCE, "model.net.num_interest=3"), "is not a setting. Did you mean 'num_interests'?"),
        ((*SEQUENCE, "model.net.num_interests=0"), "must be greater than 0."),
        (("model=sasrec", "dataset=ml1m", "model.net.num_heads=3"), "model.net.num_heads"),
        (
            ("model=stem", "model.net.num_shared_experts=0", "model.net.gate=cgc"),
            "model.net.gate=cgc needs shared experts; set model.net.num_shared_experts to 1 or more.",
        ),
        ((*SEQUENCE, "model.task=like"), "model.task (set on the command line) is not a setting."),
        ((*SEQUENCE, "dataset.evaluation.ties=pesimistic"), "Did you mean 'pessimistic'?"),
        ((*SEQUENCE, "dataset.history_max=0"), "must be greater than 0."),
        ((*SEQUENCE, "optim.name=lion"), "must be one of adam, sgd, adagrad, adadelta, adamw."),
        ((*SEQUENCE, "callbacks.early_stop.windw=3"), "Did you mean 'window'?"),
        (
            (*SEQUENCE, "model.net._target_=stemlab.models.multitask.stem.STEM"),
            "model.net.attention_dim (set in conf/model/timirec.yaml) is not a setting.",
        ),
    ],
)
def test_message(words, expected):
    assert expected in refusal(*words)


def test_network_of_the_other_family_is_refused():
    text = refusal("model=pop", "dataset=ml1m", "model.net._target_=stemlab.models.api.SequenceOutput")
    assert "model.net" in text


def test_sweep_is_refused_before_the_first_job():
    assert "model=stem and dataset=ml1m do not fit" in refusal("model=sasrec,stem", "dataset=ml1m", multirun=True)


def test_settings_of_groups_selected_by_a_swept_model_need_not_fit_the_default_model():
    words = ("model=sasrec,timirec", "dataset=ml1m", "optim.l2=0.5", "callbacks.early_stop.window=3")
    assert check_command_line(CommandLine("train", words, multirun=True)) is True
    assert "optim.l2=-1 (set on the command line) must be at least 0." in refusal(
        *words[:2], "optim.l2=1,-1", multirun=True
    )


@pytest.mark.parametrize(("stage", "own"), [("both", "finetune"), ("finetune", "finetune"), ("pretrain", "pretrain")])
def test_effective_stage(stage, own):
    assert effective_stage(compose("train", [*SEQUENCE, f"model.stage={stage}"])) == own
    assert effective_stage(compose("train", [])) is None


SHARED = [
    *("model.net.temperature=3", "model.net.projection_layers=4", "model.net.share_item_tables=true"),
    *("model.stage=finetune", "model.name=other", "logger=csv", "paths.runs_dir=elsewhere", "tags=[x]", "test=false"),
    *("trainer.threads=1", "callbacks.progress=false", "dataset.eval_batch_size=7", "objective=val/mrr"),
]
OWN = [
    *("model.net.num_interests=3", "model.net.transformer=false", "seed=5", "optim.lr=0.5", "optim.l2=0.1"),
    *("dataset.batch_size=9", "dataset.history_max=9", "dataset.num_negatives=2", "dataset.train_negatives=all"),
    *("dataset.evaluation.topk=[5]", "trainer.max_epochs=9", "trainer.precision=bf16-mixed"),
    *("trainer.limit_train_batches=3", "callbacks.early_stop.patience=9", "callbacks.checkpoint.monitor=val/mrr"),
]


def test_hash_of_stage_1_depends_on_its_settings_only():
    def name(*words, fingerprint="f"):
        return first_stage_hash(compose("train", [*SEQUENCE, *words]), fingerprint)

    assert {name(word) for word in SHARED} == {name()}
    others = [*(name(word) for word in OWN), name("trainer=ddp_cpu"), name(fingerprint="g")]
    assert len({name(), *others}) == len(others) + 1


def test_config_of_stage_1_does_not_depend_on_stage_2(tmp_path):
    one, other = (
        first_stage_config(compose("train", [*SEQUENCE, *words]), tmp_path, None)
        for words in ([], [*SHARED[:3], "model.stage=finetune", "model.init_from=x", "test=false", "objective=val/mrr"])
    )
    one["paths"], other["paths"] = {}, {}
    assert one == other
    assert (one["model"]["stage"], one["model"]["init_from"], one["test"]) == ("pretrain", None, True)
    assert one["model"]["net"] == compose("train", list(SEQUENCE))["model"]["net"]


@pytest.mark.parametrize(
    ("words", "fingerprint", "expected"),
    [
        ([], "f", None),
        (
            ["seed=9", "optim.lr=0.5", "model.net.temperature=2"],
            "f",
            None,
        ),  # settings that a stage 1 in model.init_from may have changed
        (["model.net.embedding_dim=8"], "f", "it has model.net.embedding_dim=64, this run has 8."),
        (["dataset.history_max=5"], "f", "it has dataset.history_max=20, this run has 5."),
        ([], "g", "prepared dataset f, this config gives g"),
    ],
)
def test_first_difference_of_a_given_stage_is_reported(words, fingerprint, expected, tmp_path):
    from stemlab.runs.checkpoint_io import SavedRun

    first = first_stage_config(compose("train", list(SEQUENCE)), tmp_path, None)
    saved = SavedRun(tmp_path / "best.ckpt", first, None, "f", 0, {})
    config = compose("train", [*SEQUENCE, *words])
    if expected is None:
        check_first_stage(saved, config, fingerprint)
        return
    with pytest.raises(StemlabError) as caught:
        check_first_stage(saved, config, fingerprint)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("model.net._target_=torch.nn.Linear",), ("torch.nn.Linear", "TabularNet", "impressions")),
        ((*SEQUENCE, "model=sasrec", "model.net._target_=torch.nn.Linear"), ("SequenceNet", "sequences")),
        (("model.net._target_=stemlab.models.sequential.sasrec.SASRec",), ("model.family=sequential", "change one")),
    ],
)
def test_a_class_that_is_no_network_is_told_what_a_network_needs(words, parts):
    text = refusal(*words, "~model.net", "+model.net._target_=" + words[-1].partition("=")[2])
    assert all(part in text for part in parts)


@pytest.mark.parametrize(("model", "key"), [("stem", "tasks"), ("sasrec", "evaluation")])
def test_a_dataset_that_lacks_the_key_of_a_family_is_told_which(tmp_path, model, key):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("name: mine\n_target_: tests.config.toydata.NamedDataModule\n")
    line = CommandLine("train", (f"model={model}", "dataset=mine"), extra=tmp_path)
    with pytest.raises(StemlabError, match=rf"dataset=mine has no key {key} .*model={model}"):
        check_command_line(line)


@pytest.mark.parametrize(("trainer", "advice"), [("cpu", "leave out trainer.accelerator"), ("ddp", "trainer=ddp_cpu")])
def test_a_missing_gpu_is_not_answered_with_the_trainer_in_use(monkeypatch, trainer, advice):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = compose("train", [f"trainer={trainer}", "trainer.accelerator=gpu"])
    with pytest.raises(StemlabError, match=advice) as caught:
        require_gpu(config["trainer"])
    assert "trainer=cpu needs" not in str(caught.value)
