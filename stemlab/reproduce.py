"""``python -m stemlab.reproduce timirec budget=10m``: train the runs of a published table, compare the numbers.

Exit status: 0 all numbers within their tolerance, 1 some outside, 2 an error or a failed run, 3 no verdict (SAMPLE
data, a reduced form, missing runs, or nothing published).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stemlab.config.cli import command
from stemlab.config.override_text import quote_override

if TYPE_CHECKING:
    from stemlab.reproduction.session import Reproduction

_OWN_SETTINGS = ("budget", "reduce", "seeds", "jobs", "raw_dir", "settings", "output", "reproduce", "paths", "hydra")


@command("reproduce")
def _command(config: DictConfig) -> None:
    from stemlab.config.resolve import resolve

    sys.exit(reproduce(resolve(config)))


def main() -> None:
    """Run the reproduction that the first word names."""
    sys.argv[1:] = reproduction_words(sys.argv[1:])
    _command()


def reproduction_words(words: Sequence[str]) -> list[str]:
    """Return the command line in Hydra's grammar: the first word names a preset, other keys are settings of runs."""
    own, runs = [], []
    for number, word in enumerate(words):
        key = word.lstrip("+~").partition("=")[0].partition(".")[0]
        if number == 0 and "=" not in word and not word.startswith("-"):
            own.append(f"reproduce={word}")
        elif word.startswith("-") or "=" not in word or key in _OWN_SETTINGS:
            own.append(word)
        else:
            runs.append(quote_override(word))
    return [*own, *([f"settings=[{','.join(runs)}]"] if runs else [])]


def reproduce(config: Mapping[str, Any]) -> int:
    """Train what is missing of a reproduction, make its tables and compare its numbers.

    Args:
        config: plain (``stemlab.config.compose.compose("reproduce", ["reproduce=timirec", "budget=10m"])``).

    Returns:
        The exit status: 0, 1, 2 or 3.

    Raises:
        StemlabError: an invalid setting, or missing raw files.
    """
    from stemlab.config.instantiate import validate_as
    from stemlab.config.reproduce_schema import ReproduceConfig
    from stemlab.reproduction.presets import preset_list
    from stemlab.reproduction.session import Reproduction

    started = time.monotonic()
    settings = validate_as(ReproduceConfig, config)
    if settings.reproduce is None:
        print(preset_list())
        return 0
    session = Reproduction(settings, settings.reproduce)
    print(session.header(), flush=True)
    session.prepare()
    session.train(started)
    tables = _tables(session)
    _analyses(session)
    print("\n".join([*tables, *session.lines()]))
    path = session.write(time.monotonic() - started)
    print(f"wrote {path}{f' and {path.parent}/tables' if tables else ''}")
    print(session.verdict.sentence)
    return session.verdict.status


def _tables(session: Reproduction) -> list[str]:
    """Return the report tables of the finished runs; store the comparison with published numbers."""
    from stemlab.report import report
    from stemlab.reporting.render import aligned

    config = session.report_config()
    if config is None:
        return []
    session.compare(config)
    written = report(config).split("\n")
    table = "\n".join(line for line in written if not line.startswith("wrote "))
    return session.difference_lines() or [aligned(table)]


def _analyses(session: Reproduction) -> None:
    """Make the analyses of the finished runs; what they must find and do not is stored in the verdict."""
    from stemlab.analyze import analyze
    from stemlab.config.thresholds import ThresholdError
    from stemlab.errors import StemlabError

    for config, conditions in session.analysis_configs():
        name, found = f"analysis={config['analysis']['name']}", session.verdict.conditions
        try:
            analyze(config)
        except ThresholdError as error:
            found |= {f"{name}: not {text}": text.strip() not in error.held for text in conditions}
        except StemlabError as error:
            found[f"{name}: {error}"] = False
        else:
            found |= {f"{name}: not {text}": True for text in conditions}
            if not config["runs"]:  # data with known effects
                found[f"{name} finds the known effects"] = True


if __name__ == "__main__":
    main()
