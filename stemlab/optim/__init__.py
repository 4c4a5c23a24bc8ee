"""Optimisation: settings, weight penalties, Adam with these penalties, gradient clipping, plateau scheduler."""

from stemlab.optim.adam import PenalisedAdam, PenaltyMode, build_optimizer, clip_gradients
from stemlab.optim.config import OptimConfig, PlateauConfig
from stemlab.optim.penalty import Penalty, parse_penalty, penalty_value, split_parameters
from stemlab.optim.plateau import PlateauScheduler, build_plateau
from stemlab.optim.ranking import RankingOptimConfig, build_ranking_optimizer

__all__ = [
    "OptimConfig",
    "PenalisedAdam",
    "Penalty",
    "PenaltyMode",
    "PlateauConfig",
    "PlateauScheduler",
    "RankingOptimConfig",
    "build_optimizer",
    "build_plateau",
    "build_ranking_optimizer",
    "clip_gradients",
    "parse_penalty",
    "penalty_value",
    "split_parameters",
]
