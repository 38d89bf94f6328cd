"""Parameters of discovery: candidates, goals, screening."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from matscout.params.section import Count, Fraction, Section


class Candidates(Section):
    """What `propose` makes."""

    n: Count = Field(description="how many candidates to propose")
    max_atoms: Count = Field(description="atoms per cell")
    max_elements: Count
    substitution_threshold: Fraction = Field(description="lowest ionic substitution probability")
    prototypes: bool = Field(description="decorate pymatgen's AFLOW prototypes too")
    exclude_elements: tuple[str, ...] = Field(description="never propose these elements")
    user_files: str | None = Field(description="folder of structures that join the candidates; null = none")
    seed: int


class Objective(Section):
    """One aim: a window, or a direction, for one predicted column."""

    column: str = Field(description="predicted target, or energy_above_hull")
    window: tuple[float | None, float | None] | None = Field(description="wanted range in the column's unit")
    direction: Literal["minimize", "maximize"] | None

    @model_validator(mode="after")
    def _is_one_aim(self) -> Self:
        if (self.window is None) == (self.direction is None):
            message = f"objective on {self.column!r} needs either a window or a direction, not both or neither"
            raise ValueError(message)
        if self.window and None not in self.window and self.window[0] >= self.window[1]:  # type: ignore[operator]
            message = f"window {list(self.window)} of {self.column!r} is empty; write [low, high] with low < high"
            raise ValueError(message)
        return self


class Goal(Section):
    """A named set of objectives and of elements to use or avoid."""

    description: str
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)]
    require_elements: tuple[str, ...] = Field(description="at least one of these; empty = no demand")
    allow_elements: tuple[str, ...] | None = Field(description="only these; null = all")
    deny_elements: tuple[str, ...]


class Screening(Section):
    """How candidates are ranked."""

    goal: str = Field(description="name of one of `goals`")
    goals: dict[str, Goal]
    top_k: Count = Field(description="how many candidates to write as CIF and to show")
    seed: int

    @model_validator(mode="after")
    def _goal_is_known(self) -> Self:
        if self.goal not in self.goals:
            message = f"goal {self.goal!r} is not defined; choose one of {sorted(self.goals)}"
            raise ValueError(message)
        return self
