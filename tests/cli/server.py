"""Imported by the server from which commands and ranks are forked: they find modules and config files in memory."""

import gc
import importlib

from stemlab.config.compose import CommandLine, compose_with_hydra, hydra_context
from tests.faster_composition import compose_faster

for name in (
    "pandas",
    "stemlab.config.composition_messages",
    "stemlab.config.sweep",
    "stemlab.data.prepare.pipeline",
    "stemlab.data.sources.tiktok",
    "stemlab.data.sample.tiktok",
):
    importlib.import_module(name)
compose_faster()
with hydra_context(CommandLine("train")):
    for choices in (["model=stem", "dataset=tiktok"], ["model=timirec", "dataset=rechorus"]):
        compose_with_hydra("train", [*choices, "logger=csv"])
gc.collect()
gc.freeze()  # collections in the forked processes touch, and so copy, none of this memory
