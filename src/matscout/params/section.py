"""What every block of `params.yaml` is: frozen, complete, without unknown keys."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A block of `params.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
