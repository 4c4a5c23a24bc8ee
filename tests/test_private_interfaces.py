"""Private interfaces of dependencies that the package uses: each is named here, so that a new version fails by name.

Their packages have an upper bound in pyproject.toml, or the package falls back to public functions.
"""

import importlib
import re
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
PRIVATE = re.compile(
    r"\b(?:hydra\._internal|hydra\.core|wandb\.sdk|pytorch_lightning\.[\w.]*\._|omegaconf\._)[\w.]*|\btorch\._\w+(?:\.\w+)*"
    r"|\btorch\.ops\.\w+(?:\.\w+)*|\._get_node\b"
)
# module -> names that the package imports from it
MODULES = {
    "hydra._internal.config_loader_impl": ("ConfigLoaderImpl",),
    "hydra._internal.hydra": ("Hydra",),
    "hydra._internal.utils": ("create_config_search_path", "get_args_parser", "run_and_report"),
    "hydra._internal.core_plugins.basic_sweeper": ("BasicSweeper",),
    "hydra.core.config_search_path": ("SearchPathQuery",),
    "hydra.core.global_hydra": ("GlobalHydra",),
    "hydra.core.hydra_config": ("HydraConfig",),
    "hydra.core.override_parser.overrides_parser": ("OverridesParser",),
    "hydra.core.override_parser.types": ("Override",),
    "lightning_fabric.utilities.distributed": ("_set_num_threads_if_needed",),
    "pytorch_lightning.loops.fetchers": ("_DataFetcher", "_PrefetchDataFetcher"),
    "pytorch_lightning.loops.training_epoch_loop": ("_TrainingEpochLoop",),
    "pytorch_lightning.strategies.launchers": ("_SubprocessScriptLauncher",),
    "torch._inductor.cpp_builder": ("get_cpp_compiler",),
    "torch._inductor.exc": ("InvalidCxxCompiler",),
    "wandb.sdk.lib": ("wbauth",),
}
METHODS = (
    ("hydra._internal.config_loader_impl", "ConfigLoaderImpl.get_group_options"),
    ("hydra._internal.hydra", "Hydra.create_main_hydra2"),
    ("hydra._internal.hydra", "Hydra.get_mode"),
    ("hydra._internal.core_plugins.basic_sweeper", "BasicSweeper.split_arguments"),
    ("hydra.plugins.sweeper", "Sweeper.validate_batch_is_legal"),
    ("hydra.core.override_parser.overrides_parser", "OverridesParser.parse_overrides"),
    ("pytorch_lightning.callbacks.progress.rich_progress", "RichProgressBar._get_train_description"),
    ("pytorch_lightning.loops.training_epoch_loop", "_TrainingEpochLoop.advance"),
    ("pytorch_lightning.loops.training_epoch_loop", "_TrainingEpochLoop.on_advance_end"),
    ("pytorch_lightning.strategies.launchers", "_SubprocessScriptLauncher._call_children_scripts"),
    ("wandb.sdk.lib", "wbauth.authenticate_session"),
)
BOUNDED = {"hydra": "hydra-core", "omegaconf": "omegaconf", "torch": "torch", "wandb": "wandb"}


@cache
def used() -> set[str]:
    """Return the private interfaces that the files of the package name."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "stemlab").rglob("*.py"))
    return {name for text in texts for name in PRIVATE.findall(text)}


def test_every_private_module_of_the_package_is_listed():
    modules = {name for name in used() if name.startswith(("hydra", "wandb", "pytorch_lightning", "omegaconf"))}
    packages = {name for name in modules if find_spec(name) is not None}
    assert packages == modules  # only modules are named in imports, no attributes
    assert packages <= set(MODULES)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in MODULES.items() for name in names])
def test_hydra_and_wandb(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("module", "path"), METHODS)
def test_methods(module, path):
    owner = importlib.import_module(module)
    for name in path.split("."):
        owner = getattr(owner, name)
    assert callable(owner)


def test_hydra_reads_its_arguments_with_argparse():
    from hydra._internal.utils import get_args_parser

    arguments = get_args_parser().parse_intermixed_args(["seed=1", "-m", "--cfg", "job"])
    assert (arguments.overrides, arguments.multirun, arguments.cfg) == (["seed=1"], True, "job")


def test_omegaconf_nodes():
    assert OmegaConf.create({"a": {"b": 1}})._get_node("a") == {"b": 1}


@pytest.mark.parametrize("name", sorted(name for name in used() if name.startswith("torch.")))
def test_torch(name):
    owner = torch
    for part in name.split(".")[1:]:
        assert hasattr(owner, part), name
        owner = getattr(owner, part)


@pytest.mark.parametrize("package", sorted({name.split(".")[0] for name in used() if name[0] != "."} | {"omegaconf"}))
def test_packages_with_private_interfaces_have_an_upper_bound(package):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = (text for text in project["dependencies"] if text.startswith(BOUNDED[package] + ">="))
    assert ",<" in requirement
