"""Hydra finds the sweeper of stemlab here: Hydra accepts plugins of the namespace ``hydra_plugins`` only."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class StemlabSweeper(BasicSweeper):
    """Hydra's sweeper; jobs in processes of their own, and searches, are run by ``stemlab.sweep``.

    The grid of ``-m`` with ``sweep.jobs=1`` is left to Hydra and its launcher.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs of a sweep.

        Args:
            arguments: overrides of the command line, of which some have several values.
        """
        from stemlab.sweep.sweeper import check_results, grid_lock, run_sweep, runs_in_processes, write_command

        assert self.config is not None
        assert self.hydra_context is not None
        with grid_lock(self.config):
            write_command(self.config)
            if not runs_in_processes(self.config):
                results = super().sweep(arguments)
                check_results(self.config, results)
                return results
            loader = self.hydra_context.config_loader
            return run_sweep(self.config, loader, [*self._parse_config(), *arguments])
