"""Dashboards of runs: panels defined once, shown as one HTML page or as a W&B workspace."""
