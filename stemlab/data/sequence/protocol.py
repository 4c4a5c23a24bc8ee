"""Protocol of the ranking evaluation: candidates, cut-offs and tie rule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from stemlab.types import PositiveInt


def _distinct(topk: list[int]) -> list[int]:
    if len(set(topk)) < len(topk):
        raise ValueError("a list of different cut-offs")
    return topk


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RankingProtocol:
    """Settings of the ranking evaluation; defaults as in the released code, whose order of ties is undefined.

    Metrics: docs/methods/timirec.md#ranking-metrics; candidates: docs/methods/datasets.md#candidates-of-evaluation.

    Attributes:
        candidates: ``stored`` ranks the positive among the stored negatives of the prepared dataset; ``full`` among
            all items that the user has not interacted with.
        topk: cut-offs k of HR@k and NDCG@k; the first one is monitored during training.
        ties: rank of the positive among items with the same score: ``pessimistic`` last, ``optimistic`` first,
            ``mean`` the average of both.
    """

    candidates: Literal["stored", "full"] = "stored"
    topk: Annotated[list[PositiveInt], Field(min_length=1), AfterValidator(_distinct)] = Field(
        default_factory=lambda: [5, 10, 20, 50]
    )
    ties: Literal["pessimistic", "optimistic", "mean"] = "pessimistic"
