"""Optimisation: settings, penalties, optimisers with penalties, rules of embedding tables, clipping, schedules."""

from stemlab.optim.builder import build_optimizer
from stemlab.optim.config import OptimConfig, PlateauConfig, RateGroups, TableRule
from stemlab.optim.penalised import PenalisedAdam, PenalisedOptimizer, PenaltyMode, clip_gradients, limit_gradients
from stemlab.optim.penalty import Penalty, parse_penalty, penalty_value, split_parameters
from stemlab.optim.plateau import PlateauScheduler, build_plateau
from stemlab.optim.ranking import RankingOptimConfig, build_ranking_optimizer
from stemlab.optim.schedule import RateSchedule, ScheduleConfig
from stemlab.optim.tables import RowAdam

__all__ = [
    "OptimConfig",
    "PenalisedAdam",
    "PenalisedOptimizer",
    "Penalty",
    "PenaltyMode",
    "PlateauConfig",
    "PlateauScheduler",
    "RankingOptimConfig",
    "RateGroups",
    "RateSchedule",
    "RowAdam",
    "ScheduleConfig",
    "TableRule",
    "build_optimizer",
    "build_plateau",
    "build_ranking_optimizer",
    "clip_gradients",
    "limit_gradients",
    "parse_penalty",
    "penalty_value",
    "split_parameters",
]
