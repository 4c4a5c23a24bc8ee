"""How ranking is evaluated: against which candidates, at which cut-offs, with which rule for ties."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from stemlab.types import PositiveInt


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RankingProtocol:
    """Settings of ranking evaluation; the defaults are the published ones, but for ties (there: undefined).

    Attributes:
        candidates: ``stored`` ranks the positive among the negatives that the prepared dataset holds; ``full`` among
            all items that the user has not interacted with.
        topk: cut-offs k of HR@k and NDCG@k; the first is the one watched while training.
        ties: ``pessimistic`` puts the positive behind every item of the same score, ``optimistic`` before them,
            ``mean`` between the two.
    """

    candidates: Literal["stored", "full"] = "stored"
    topk: Annotated[list[PositiveInt], Field(min_length=1)] = Field(default_factory=lambda: [5, 10, 20, 50])
    ties: Literal["pessimistic", "optimistic", "mean"] = "pessimistic"
