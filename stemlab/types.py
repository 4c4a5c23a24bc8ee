"""Types of config values, used in constructor signatures and validated when the config is composed; one constant."""

from typing import Annotated, Literal

from pydantic import Field

PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]  # sizes and counts that torch and NumPy can hold
NonNegativeInt = Annotated[int, Field(ge=0, lt=2**32)]  # also seeds
# bounded, so that a misspelt exponent is refused and no product of settings overflows float32
PositiveFloat = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
PenaltyWeight = Annotated[float, Field(ge=0, le=1e4, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
ClosedFraction = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Widths = Annotated[list[PositiveInt], Field(min_length=1)]
MISSING_GROUP = -(2**63)  # key of samples without a group (an empty cell of the user column); gAUC leaves them out
LabelKind = Literal["binary", "regression"]
Mode = Literal["max", "min"]  # whether larger or smaller values of a metric are better
