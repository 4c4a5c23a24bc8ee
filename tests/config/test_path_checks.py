"""Empty paths, splits with keys that their rule does not read, and impossible numbers of a real dataset are refused."""

import pytest

from stemlab.config.compose import CommandLine, compose
from stemlab.config.sweep import check_command_line
from stemlab.errors import StemlabError

MULTITASK, SEQUENCES = ("train", ()), ("train", ("model=timirec", "dataset=ml1m"))
PREDICT = ("predict", ("ckpt=a.ckpt", "output=a.csv"))


@pytest.mark.parametrize(
    ("command", "word", "expected"),
    [
        (MULTITASK, "dataset.raw_dir=''", "dataset.raw_dir='' .*command line.*empty path"),
        (MULTITASK, "dataset.raw_dir='  '", "dataset.raw_dir='  ' .*empty path"),
        (MULTITASK, "dataset.data_dir=", "dataset.data_dir='' .*empty path"),
        (MULTITASK, "ckpt_path=''", "ckpt_path='' .*empty path"),
        (SEQUENCES, "model.init_from=''", "model.init_from='' .*empty path"),
        (SEQUENCES, "dataset.raw_dir=''", "dataset.raw_dir='' .*empty path"),
        (PREDICT, "input=''", "input='' .*empty path"),
        (PREDICT, "vectors=''", "vectors='' .*empty path"),
        (PREDICT, "data_dir=''", "data_dir='' .*empty path"),
        (("evaluate", ()), "ckpt=''", "ckpt='' .*empty path"),
        (("report", ()), "runs=['']", "runs='' .*empty path"),
        (("analyze", ()), "run=''", "run='' .*empty path"),
        (MULTITASK, "dataset.name=../up", "dataset.name='../up' .*command line.*folder"),
        (MULTITASK, "dataset.name=''", "dataset.name='' .*folder"),
        (MULTITASK, "dataset.split.carve=random", "dataset.split.carve=random .*not read by .*random.*given"),
        (MULTITASK, "dataset.split.valid_from=5", "dataset.split.valid_from=5 .*not read by .*dates"),
        (("train", ("dataset.split.rule=time",)), "dataset.split.seed=7", "dataset.split.seed=7 .*time, which reads"),
        (("train", ("dataset=kuairand",)), "dataset.split.test_size=0.2", "dataset.split.test_size=0.2 .*dates"),
        (MULTITASK, "dataset.sample.zipf=1e30", "dataset.sample.zipf=.*command line.*at most"),
        (MULTITASK, "optim.lr=1e30", "optim.lr=.*command line.*at most 10"),
        (SEQUENCES, "optim.lr=1e30", "optim.lr=.*command line.*at most 10"),
        (SEQUENCES, "optim.l2=1e30", "optim.l2=.*command line.*at most"),
    ],
)
def test_refused(command: tuple[str, tuple[str, ...]], word: str, expected: str) -> None:
    name, words = command
    with pytest.raises(StemlabError, match=expected):
        compose(name, [*words, word])


@pytest.mark.parametrize(
    "words", [("dataset.split.seed=7",), ("dataset.split.rule=time", "dataset.split.test_size=0.2")]
)
def test_keys_that_the_rule_reads_are_accepted(words: tuple[str, ...]) -> None:
    compose("train", list(words))


@pytest.mark.parametrize("word", ["hydra.run.dir=", "hydra.sweep.dir=''"])
def test_an_empty_job_folder_is_refused(word: str) -> None:
    with pytest.raises(StemlabError, match=f"{word.partition('=')[0]} .*empty path"):
        check_command_line(CommandLine("train", (word,)))
