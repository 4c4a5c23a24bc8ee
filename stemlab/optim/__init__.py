"""Optimisation: settings, weight penalties, Adam with these penalties, rules of embedding tables, clipping, plateau."""

from stemlab.optim.adam import PenalisedAdam, PenaltyMode, clip_gradients
from stemlab.optim.builder import build_optimizer
from stemlab.optim.config import OptimConfig, PlateauConfig, TableRule
from stemlab.optim.penalty import Penalty, parse_penalty, penalty_value, split_parameters
from stemlab.optim.plateau import PlateauScheduler, build_plateau
from stemlab.optim.ranking import RankingOptimConfig, build_ranking_optimizer
from stemlab.optim.tables import RowAdam

__all__ = [
    "OptimConfig",
    "PenalisedAdam",
    "Penalty",
    "PenaltyMode",
    "PlateauConfig",
    "PlateauScheduler",
    "RankingOptimConfig",
    "RowAdam",
    "TableRule",
    "build_optimizer",
    "build_plateau",
    "build_ranking_optimizer",
    "clip_gradients",
    "parse_penalty",
    "penalty_value",
    "split_parameters",
]
