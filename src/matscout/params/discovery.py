"""Parameters of discovery: candidates, goals, screening."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from matscout import columns
from matscout.params.section import (
    Count,
    ElementSymbol,
    Fraction,
    NonNegative,
    Positive,
    Section,
    Seed,
    check_range,
)

RelaxedProperty = Literal["surface_energy", "average_voltage", "bulk_modulus_potential"]
MobileIon = Literal["Li", "Na", "K", "Rb", "Cs", "Ag", "Mg", "Ca", "Sr", "Ba", "Zn", "Al", "Y"]


class Routes(Section):
    """Shares of the ways to make a candidate; where one runs out, the others continue."""

    substitution: NonNegative = Field(description="likely replacements of a known salt's ions")
    prototype: NonNegative = Field(description="known arrangements of atoms, AFLOW's too, filled with common ions")
    intermetallic: NonNegative = Field(description="known compounds of metals with similar metals in their place")

    @model_validator(mode="after")
    def _one_is_open(self) -> Self:
        if not self.substitution + self.prototype + self.intermetallic:
            message = "all shares are 0, so nothing can be proposed; give at least one route a share above 0"
            raise ValueError(message)
        return self


class Candidates(Section):
    """What `propose` makes."""

    n: Count = Field(description="how many candidates to propose")
    max_atoms: Count = Field(description="atoms per cell")
    max_elements: Count
    substitution_threshold: Fraction = Field(description="lowest ionic substitution probability")
    routes: Routes
    exclude_elements: tuple[ElementSymbol, ...] = Field(description="never propose these elements")
    seed: Seed


class Objective(Section):
    """One aim: a window, or a direction, for one predicted column."""

    column: str = Field(
        description="predicted target, energy_above_hull, a figure of its elements, or a property of `relaxation`"
    )
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
    require_elements: tuple[ElementSymbol, ...] = Field(description="at least one of these; empty = no demand")
    allow_elements: tuple[ElementSymbol, ...] | None = Field(description="only these; null = all")
    deny_elements: tuple[ElementSymbol, ...]

    @model_validator(mode="after")
    def _can_be_screened(self) -> Self:
        if not self.screened:
            message = (
                f"every objective names a property that only relaxed crystals have ({self.objectives[0].column}); "
                "add one that `screen` can predict, such as energy_above_hull"
            )
            raise ValueError(message)
        return self

    @property
    def screened(self) -> tuple[Objective, ...]:
        """Objectives on what is known before the relaxation."""
        return tuple(aim for aim in self.objectives if aim.column not in columns.BY_RELAXATION)

    @property
    def relaxed(self) -> tuple[Objective, ...]:
        """Objectives on properties that only relaxed crystals have."""
        return tuple(aim for aim in self.objectives if aim.column in columns.BY_RELAXATION)


class Relaxation(Section):
    """How the best candidates are relaxed, and judged again by the potential that relaxes them."""

    potential: str | None = Field(
        description="sevennet-0, sevennet-l3i5, chgnet, chgnet-r2scan, an entry point's name or a file.py; null = none"
    )
    judge: str | None = Field(
        description="potential whose energies of the relaxed cells count, named likewise; null = the one that relaxes"
    )
    trust_file: bool = Field(description="whether a file.py that `potential` or `judge` names may be run")
    n: Count = Field(description="first candidates by rank, and as many by expected improvement")
    cell: bool = Field(description="relax the cell too, not the atoms alone")
    symmetry: bool = Field(description="keep the space group; else atoms are displaced a little before the descent")
    force: Positive = Field(description="largest force at which a relaxation ends, eV/Å")
    steps: Count = Field(description="at most")
    volume: tuple[Positive, Positive] = Field(description="volume after over volume before: more change is refused")
    bonds: Positive = Field(description="largest relative change of a nearest-neighbour distance that is accepted")
    n_known: Count = Field(description="known validation crystals that weigh the potential against the ensemble")
    properties: tuple[RelaxedProperty, ...] = Field(
        description="computed for the relaxed crystals by the same potential, beside those that the goal asks for"
    )
    mobile_ions: Annotated[tuple[MobileIon, ...], Field(min_length=1)] = Field(
        description="average_voltage takes out the first of them that a crystal holds"
    )
    slab_atoms: Count = Field(description="surface_energy skips larger slabs")
    seed: Seed

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        check_range("relaxation.volume", *self.volume)
        return self


class Cascade(Section):
    """A first look by one member at all candidates, so that the ensemble looks at fewer."""

    member: str = Field(description="name of one of `members` or `distilled`: it looks at all candidates")
    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        description="best share, of those that obey the element rules, that the whole ensemble judges"
    )


class Screening(Section):
    """How candidates are ranked."""

    goal: str = Field(description="name of one of `goals`")
    goals: dict[str, Goal]
    top_k: Count = Field(description="how many candidates to write as CIF and to show")
    hull: str = Field(description="table, or folder of tables, of known phases beside the curated ones")
    cascade: Cascade | None = Field(description="null = the whole ensemble judges every candidate")
    seed: Seed

    @model_validator(mode="after")
    def _goal_is_known(self) -> Self:
        if self.goal not in self.goals:
            message = f"goal {self.goal!r} is not defined; choose one of {sorted(self.goals)}"
            raise ValueError(message)
        return self
