"""Code blocks of README.md and docs/ (`make nightly`): settings of all commands exist; commands and programs run."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from stemlab.config.compose import CommandLine, OverridesParser, compose_job, hydra_context
from tests.cli.commands import Workspace, restored_process
from tests.documentation.code_blocks import PAGES, ROOT, code_blocks, page_commands, page_files, page_programs
from tests.documentation.page_data import BEFORE, FILES, TABLE
from tests.tiny_datasets import overrides

COMMANDS = [command for page in PAGES for command in page_commands(page)]
RUNNABLE = [page for page in PAGES if page_programs(page) or any(not x.not_run for x in page_commands(page))]
SHORT = ("trainer.max_epochs=1", "logger=none")
SMALLER = {
    "optim.schedule.warmup_steps=200": "optim.schedule.warmup_steps=1",
    "trainer.max_steps=5000": "trainer.max_steps=2",
    "trainer.val_check_interval=500": "trainer.val_check_interval=1",
}


def first_choices(words):
    """Return overrides in which a list of values of a multirun is its first value."""
    given = [word for word in words if not word.startswith("-") and "=" in word]  # others: the name of a reproduction
    parsed = OverridesParser.create().parse_overrides(given)
    chosen = []
    for override in parsed:
        value = next(override.sweep_string_iterator()) if override.is_sweep_override() else None
        chosen.append(override.input_line if value is None else f"{override.get_key_element()}={value}")
    return chosen


def write_page_files(page):
    """Write the files that a page shows into the current directory."""
    for name, text in page_files(page).items():
        Path(name).write_text(text, encoding="utf-8")


def drafted(word):
    """Return whether a word names a description that an earlier command of the page drafts."""
    return word.startswith("dataset.config=") and not Path(word.partition("=")[2]).exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_settings_of_a_command_exist(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_page_files(command.page)
    words = [re.sub("…|<.*?>", "x", word) for word in command.words]
    words = [word for word in first_choices(words) if not drafted(word)]
    with hydra_context(CommandLine(command.name)):
        assert compose_job(command.name, words)


@pytest.mark.parametrize("page", [page for page in PAGES if any(kind == "yaml" for kind, _, _ in code_blocks(page))])
def test_yaml_blocks_are_mappings(page):
    for kind, _, text in code_blocks(page):
        assert kind != "yaml" or isinstance(yaml.safe_load(text), dict)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """``dataset=<name>`` -> the overrides of a small one."""
    data = tmp_path_factory.mktemp("pages")
    found = {f"dataset={name}": overrides(name, data / name) for name in ("tiktok", "ml1m", "aliexpress")}
    # the networks have their released sizes: few, large batches
    return {name: [*words[:2], "dataset.batch_size=512", *words[3:]] for name, words in found.items()}


def small_words(command, small):
    """Return the arguments of a command with a small dataset and one epoch."""
    words = [other for word in command.words for other in small.get(word, [SMALLER.get(word, word)])]
    if command.name not in ("train", "prepare", "profile"):
        return [filled(word) for word in words]
    if not any(word.startswith(("dataset=", "experiment=", "resume", "sweep.resume")) for word in words):
        words += small["dataset=tiktok"]
    if any(word.startswith("experiment=tiktok") for word in words):
        words += [word for word in small["dataset=tiktok"] if not word.startswith("dataset=")]
    if command.name != "train" or any(word.startswith("resume_from") for word in words):
        return [filled(word) for word in words]
    kept = [word for word in words if not word.startswith("trainer.max_epochs")]
    return [filled(word) for word in [*kept, *SHORT]]


def filled(word):
    """Return a word whose placeholder of a run is replaced by the newest run below ``runs``."""
    name, equals, value = word.partition("=")
    if not equals or not any(mark in value for mark in ("…", "<")):
        return word
    newest = max(Path("runs").rglob("record.json"), key=lambda path: path.stat().st_mtime)
    tail = "/checkpoints/best.ckpt" if value.endswith(".ckpt") else ""
    return f"{name}={newest.parent}{tail}"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE)
def test_commands_and_programs_run(page, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(tmp_path)
    write_page_files(page)
    Path("scripts").symlink_to(ROOT / "scripts")
    for name, write in FILES.get(page, {}).items():
        write(Path(name))
    if page in BEFORE:
        first = TABLE if "rows.csv" in FILES.get(page, {}) else ("model=mmoe", *small["dataset=tiktok"])
        workspace.run("train", *first, *SHORT, *BEFORE[page])
    for command in page_commands(page):
        if not command.not_run:
            workspace.run(command.name, *small_words(command, small))
    for number, (_, text) in enumerate(page_programs(page)):
        program = Path(f"program_{number}.py")
        program.write_text(text)
        with restored_process():
            runpy.run_path(str(program))
