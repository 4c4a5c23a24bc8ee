"""Settings read from the source code of a class, without importing torch."""

import subprocess
import sys

import pytest

from stemlab.config.compose import compose
from stemlab.config.signature import read_parameters
from stemlab.errors import StemlabError


def test_reads_types_and_required_settings():
    parameters = read_parameters("stemlab.models.multitask.stem.STEM")
    assert parameters["embedding_dim"][1] is True
    assert parameters["gate"][1] is False
    assert parameters["gate"][0].__args__ == ("aftb", "all_backward", "cgc", "stop_shared_too")
    assert parameters["batch_norm"][0] is bool
    assert "fields" not in parameters


def test_follows_a_base_class_to_another_file():
    own = read_parameters("stemlab.models.multitask.shared_bottom.SharedBottom")
    assert read_parameters("stemlab.models.multitask.single_task.SingleTask") == own


def test_unreadable_classes_are_imported():
    assert read_parameters("tests.config.toydata.ToyDataModule") is None
    assert read_parameters("stemlab.no_such_module.Net") is None
    assert read_parameters("stemlab.models.multitask.stem.NoSuchNet") is None


def test_wrong_value_is_reported_before_torch_is_imported():
    program = (
        "import sys\n"
        "from stemlab.config.compose import CommandLine\n"
        "from stemlab.config.sweep import check_command_line\n"
        "from stemlab.errors import StemlabError\n"
        "for word in ('model.net.embedding_dim=0', 'dataset.min_count=0', 'model.task=lik', 'trainer.max_epochs=x'):\n"
        "    try:\n"
        "        check_command_line(CommandLine('train', (word,)))\n"
        "    except StemlabError as error:\n"
        "        print(error)\n"
        "print(sorted({'torch', 'pytorch_lightning'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "model.net.embedding_dim=0 (set on the command line) must be greater than 0.",
        "dataset.min_count=0 (set on the command line) must be greater than 0.",
        "model.task='lik' (set on the command line) must be a task of tiktok: finish, like. Did you mean 'like'?",
        "trainer.max_epochs='x' (set on the command line) must be an integer.",
        "[]",
    ]


def test_contradicting_settings_are_reported_before_data_is_read():
    words = ("model=mmfi", "dataset=aliexpress", "model.net.published=true", "model.net.bn_all_rows=false")
    with pytest.raises(StemlabError, match=r"model.net.published=true, but the released code has bn_all_rows=true"):
        compose("train", list(words))
    compose("train", list(words[:3]))
