"""Parameters of discovery: candidates, goals, screening."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

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
    prototype: NonNegative = Field(description="known prototypes, AFLOW's too, decorated with common ions")
    intermetallic: NonNegative = Field(description="known intermetallics with metals replaced by similar ones")

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
        description="predicted target, energy_above_hull, a property of its elements, or a property of `relaxation`"
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


Symbols = tuple[ElementSymbol, ...]


class ElementGroups(Section):
    """Elements that a crystal must hold and must not hold; what is left out demands nothing."""

    all_of: Symbols = Field(default=(), description="every one of these")
    any_of: tuple[Annotated[Symbols, Field(min_length=1)], ...] = Field(
        default=(), description="at least one of these; a list of lists: at least one of each"
    )
    none_of: Symbols = ()

    @field_validator("any_of", mode="before")
    @classmethod
    def _one_group_or_several(cls, given: Any) -> Any:
        is_group = isinstance(given, Sequence) and not isinstance(given, str)
        return [given] if is_group and given and all(isinstance(item, str) for item in given) else given


class Goal(Section):
    """A named set of objectives and of elements to use or avoid; rules on elements may be left out."""

    description: str
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)]
    elements: ElementGroups = ElementGroups()
    require_elements: Symbols = Field(default=(), description="at least one of these: one more group of any_of")
    allow_elements: Symbols | None = Field(default=None, description="only these; null = all")
    deny_elements: Symbols = Field(default=(), description="none of these, beside none_of")

    @property
    def one_of_each(self) -> tuple[Symbols, ...]:
        """Groups of elements; a crystal must hold an element of each."""
        groups = (*((symbol,) for symbol in self.elements.all_of), *self.elements.any_of, self.require_elements)
        return tuple(group for group in groups if group)

    @property
    def denied(self) -> frozenset[str]:
        """Elements that a crystal must not hold."""
        return frozenset(self.elements.none_of) | frozenset(self.deny_elements)

    @model_validator(mode="after")
    def _elements_can_be_met(self) -> Self:
        if self.allow_elements is not None and not set(self.allow_elements) - self.denied:
            message = f"every element of allow_elements {list(self.allow_elements)} is also denied; nothing is left"
            raise ValueError(message)
        for group in self.one_of_each:
            usable = set(group) - self.denied
            if self.allow_elements is not None:
                usable &= set(self.allow_elements)
            if not usable:
                message = (
                    f"a crystal must hold {' or '.join(group)}, which deny_elements, none_of or allow_elements "
                    "exclude; take it out of one of them"
                )
                raise ValueError(message)
        return self

    def element_rules(self) -> list[tuple[str, str]]:
        """The rules on elements in words, each with its symbols; none where there is none."""
        rules = [("contains", ", ".join(self.elements.all_of))]
        groups = (*self.elements.any_of, self.require_elements)
        rules += [("contains at least one of", ", ".join(group)) for group in groups]
        rules.append(("contains only", ", ".join(self.allow_elements or ())))
        rules.append(("does not contain", ", ".join((*self.elements.none_of, *self.deny_elements))))
        return [(what, symbols) for what, symbols in rules if symbols]

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
        description="potential that gives the energies of the relaxed cells, named likewise; null = the one that "
        "relaxes"
    )
    trust_file: bool = Field(description="whether a file.py that `potential` or `judge` names may be run")
    n: Count = Field(description="first candidates by rank, and as many by expected improvement")
    cell: bool = Field(description="relax the cell too, not the atoms alone")
    symmetry: bool = Field(
        description="keep the space group; otherwise atoms are displaced a little before the relaxation"
    )
    force: Positive = Field(description="largest force at which a relaxation ends, eV/Å")
    steps: Count = Field(description="at most")
    volume: tuple[Positive, Positive] = Field(
        description="volume after over volume before; a candidate outside is rejected"
    )
    bonds: Positive = Field(description="largest relative change of a nearest-neighbour distance that is accepted")
    n_known: Count = Field(description="known validation crystals used to weight the potential and the ensemble")
    properties: tuple[RelaxedProperty, ...] = Field(
        description="computed for the relaxed crystals by the same potential, beside those that the goal asks for"
    )
    mobile_ions: Annotated[tuple[MobileIon, ...], Field(min_length=1)] = Field(
        description="average_voltage takes out the first of them that a crystal holds"
    )
    slab_atoms: Count = Field(description="surface_energy skips larger slabs")
    batches: Literal["auto", "always", "never"] = Field(
        description="relax many candidates at once with torch-sim: auto = on a GPU, where it is installed; always = on "
        "a CPU too; never = one by one"
    )
    seed: Seed

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        check_range("relaxation.volume", *self.volume)
        return self


class Cascade(Section):
    """A first look by one member at all candidates, so that the ensemble looks at fewer."""

    member: str = Field(description="name of one of `members` or `distilled`, which predicts all candidates")
    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        description="share of the candidates that obey the element rules, best first, that the whole ensemble predicts"
    )


class Screening(Section):
    """How candidates are ranked."""

    goal: str = Field(description="name of one of `goals`")
    goals: dict[str, Goal]
    top_k: Count = Field(description="how many candidates to write as CIF and to show")
    hull: str = Field(description="table, or folder of tables, with further known phases")
    cascade: Cascade | None = Field(description="null = the whole ensemble predicts every candidate")
    seed: Seed

    @model_validator(mode="after")
    def _goal_is_known(self) -> Self:
        if self.goal not in self.goals:
            message = f"goal {self.goal!r} is not defined; choose one of {sorted(self.goals)}"
            raise ValueError(message)
        return self
