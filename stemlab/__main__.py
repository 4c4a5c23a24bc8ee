"""``python -m stemlab`` lists the commands; ``python -m stemlab train ...`` runs a command."""

from __future__ import annotations

import runpy
import sys

from stemlab import __version__
from stemlab.config.output_streams import robust_output
from stemlab.errors import nearest

COMMAND_HELP = {
    "train": "train a model on a dataset, test its best epoch, write a record",
    "evaluate": "compute the metrics of a checkpoint",
    "predict": "score rows, or recommend items to users, with a checkpoint",
    "export": "write a checkpoint as an ONNX or torch.export file, with the encoder of raw rows and a model card",
    "prepare": "convert raw files to a prepared dataset (train does this when needed)",
    "report": "make tables and figures from the records of runs",
    "reproduce": "train the runs of a published table and compare the numbers",
    "dashboard": "show all runs on one HTML page, or as a W&B workspace",
    "analyze": "analyse the embeddings of runs: numbers, figures, an HTML page",
    "profile": "show where the time of a training step goes, and its memory",
}
EXAMPLES = """\
examples:
  python -m stemlab.train model=stem dataset=tiktok
  python -m stemlab.train -m model=shared_bottom,mmoe,ple,stem dataset=tiktok seed=1,2,3
  python -m stemlab.evaluate ckpt=runs/tiktok/stem/<time>/checkpoints/best.ckpt
  python -m stemlab.train --help model=stem   options of each group; settings with default, type and comment
  python -m stemlab.train --cfg job           the composed config
Settings are given as key=value; -m runs one job per combination of values."""


def usage() -> str:
    """Return the list of commands."""
    lines = [f"  {name:<10}{text}" for name, text in COMMAND_HELP.items()]
    return "\n".join(
        [f"stemlab {__version__}", "usage: python -m stemlab <command> [key=value ...]", "", *lines, "", EXAMPLES]
    )


def main() -> None:
    """Run the command in the first argument as the main module; Lightning starts further processes by that name."""
    with robust_output():
        _main(sys.argv[1:])


def _main(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if words[0] == "--version":
        print(__version__)
        return
    if words[0] not in COMMAND_HELP:
        hint = nearest(words[0], list(COMMAND_HELP)) or f" Commands: {', '.join(COMMAND_HELP)}."
        print(f"error: there is no command {words[0]!r}.{hint}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [sys.argv[0], *words[1:]]
    runpy.run_module(f"stemlab.{words[0]}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
