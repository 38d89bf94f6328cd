"""The whole of `params.yaml`, and how a mistake in it is reported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from matscout.columns import (
    BAND_GAP_NOISE,
    BY_RELAXATION,
    ENERGY_ABOVE_HULL,
    FORMATION_ENERGY_ALIGNED,
    FORMATION_ENERGY_ALIGNED_STD,
    FORMATION_ENERGY_NOISE,
    LABELS,
    PARENT_MADE,
    RESOURCES,
)
from matscout.errors import ParameterError
from matscout.layout import MEMBERS, PRETRAINED
from matscout.params.data import Curation, Database, Graphs, Hypothetical, Split
from matscout.params.discovery import Candidates, Relaxation, Screening
from matscout.params.learning import Compute, Distilled, Ensemble, FineTuned, Member, Recipe, Target, base_target
from matscout.params.section import Name, Section

PARAMS_FILE = Path("params.yaml")
NOISE = (FORMATION_ENERGY_NOISE, FORMATION_ENERGY_ALIGNED_STD, BAND_GAP_NOISE)

Block = TypeVar("Block")


class Params(Section):
    """All of `params.yaml`."""

    databases: Annotated[dict[Name, Database], Field(min_length=1)]
    curation: Curation
    hypothetical: Hypothetical
    graphs: Graphs
    split: Split
    targets: Annotated[dict[str, Target], Field(min_length=1)]
    model: Recipe  # the key that users write: `dvc exp run -S model.lr=0.001`
    compute: Compute
    members: Annotated[dict[Name, Member], Field(min_length=1)]
    pretrained: dict[Name, Member]
    finetuned: dict[Name, FineTuned]
    distilled: dict[Name, Distilled]
    ensemble: Ensemble
    candidates: Candidates
    screening: Screening
    relaxation: Relaxation

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.curation.offsets.reference not in self.databases:
            message = (
                f"curation.offsets.reference = {self.curation.offsets.reference!r} is not a database; "
                f"choose one of {sorted(self.databases)}"
            )
            raise ValueError(message)
        for path, member in self._blocks():
            if member.graph.n_neighbors > self.graphs.n_neighbors:
                message = (
                    f"{path}.graph.n_neighbors = {member.graph.n_neighbors} exceeds "
                    f"graphs.n_neighbors = {self.graphs.n_neighbors}; raise the latter or lower the former"
                )
                raise ValueError(message)
            if unknown := sorted(set(member.training.target_weights) - {base_target(name) for name in self.targets}):
                message = (
                    f"{path}.training.target_weights.{unknown[0]} is not a target; choose from {sorted(self.targets)}"
                )
                raise ValueError(message)
        first = self.screening.cascade
        if first and first.member not in {**self.members, **self.distilled}:
            message = (
                f"screening.cascade.member = {first.member!r} is not a member; "
                f"choose one of {sorted({**self.members, **self.distilled})}"
            )
            raise ValueError(message)
        wanted = self.screening.goals[self.screening.goal].relaxed
        if wanted and self.relaxation.potential is None:
            message = (
                f"screening.goals.{self.screening.goal} asks for {wanted[0].column}, which only a potential computes; "
                "name one in relaxation.potential, or take the objective out"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _columns_are_known(self) -> Self:
        """What targets learn is a column of the training set; what the chosen goal asks for is predicted."""
        free = {label for database in self.databases.values() for label in database.file.labels}
        choices = {"label": {*LABELS, FORMATION_ENERGY_ALIGNED} | free, "noise": set(NOISE) | free}
        for name, target in self.targets.items():
            for key, known in choices.items():
                column = getattr(target, key)
                if column is not None and column not in known:
                    message = (
                        f"targets.{name}.{key} = {column!r} is no column with numbers; choose one of {sorted(known)}, "
                        f"or name the column of your file in databases.<name>.file.labels"
                    )
                    raise ValueError(message)
        predicted = {*self.targets, ENERGY_ABOVE_HULL, *RESOURCES, PARENT_MADE, *BY_RELAXATION}
        for aim in self.screening.goals[self.screening.goal].objectives:
            if aim.column not in predicted:
                message = (
                    f"screening.goals.{self.screening.goal} asks for {aim.column!r}, which is not predicted; choose "
                    f"from {sorted(predicted)}, or make it a target (docs/models.md#add-a-target)"
                )
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _starts_are_known(self) -> Self:
        if both := sorted(set(self.members) & set(self.finetuned)):
            message = (
                f"finetuned.{both[0]} has the name of a member, so both would be data/members/{both[0]}; rename it"
            )
            raise ValueError(message)
        if both := sorted(set(self.ensembled) & set(self.distilled)):
            message = f"distilled.{both[0]} has the name of a member; rename it"
            raise ValueError(message)
        known = {f"{PRETRAINED}/{name}" for name in self.pretrained} | {f"{MEMBERS}/{n}" for n in self.ensembled}
        for name, block in self.finetuned.items():
            start = Path(block.from_).as_posix()
            ours = start.startswith((f"{PRETRAINED}/", f"{MEMBERS}/"))
            if (ours and start not in known) or start == f"{MEMBERS}/{name}":
                choice = sorted(known - {f"{MEMBERS}/{name}"})
                message = f"finetuned.{name}.from = {block.from_!r} is trained by no block; choose one of {choice}"
                raise ValueError(message)
        return self

    @property
    def ensembled(self) -> dict[str, Member]:
        """The members that the ensemble combines: `members`, then those of `finetuned`."""
        return {**self.members, **{name: block.member for name, block in self.finetuned.items()}}

    def _blocks(self) -> list[tuple[str, Member]]:
        """Every block of a network, with its path in the file."""
        return [
            *((f"members.{name}", member) for name, member in self.members.items()),
            *((f"pretrained.{name}", member) for name, member in self.pretrained.items()),
            *((f"finetuned.{name}.member", block.member) for name, block in self.finetuned.items()),
            *((f"distilled.{name}.member", block.member) for name, block in self.distilled.items()),
        ]


def block_of(section: str, blocks: Mapping[str, Block], name: str) -> Block:
    """Find a block of a section that may be empty.

    Args:
        section: its name, for the message.
        blocks: blocks of the section, by name.
        name: name of the block.

    Returns:
        The block.

    Raises:
        ParameterError: there is no such block; the message lists those there are.
    """
    if name not in blocks:
        choice = f"choose one of {sorted(blocks)}" if blocks else "it has no such block"
        raise ParameterError(f"{section}.{name} is not in {PARAMS_FILE}; {choice}")
    return blocks[name]


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole of `params.yaml`.

    Args:
        path: path of the YAML file.

    Returns:
        All sections, checked and frozen.

    Raises:
        ParameterError: the file is missing, is no YAML mapping, or breaks a rule; the message names
            every offending key with its full path, its value and what is allowed.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        message = f"{path} not found: run from the repository root"
        raise ParameterError(message) from error
    except yaml.YAMLError as error:
        message = f"{path} is not valid YAML: {error}"
        raise ParameterError(message) from error
    return check_params(tree, path)


def check_params(tree: object, path: Path = PARAMS_FILE) -> Params:
    """Check a tree of parameters.

    Args:
        tree: as YAML gives it.
        path: where it was read, for messages.

    Returns:
        All sections, frozen.

    Raises:
        ParameterError: the tree is not a mapping or breaks a rule; see `load_params`.
    """
    if not isinstance(tree, Mapping):
        message = f"{path} must hold a mapping of sections {sorted(Params.model_fields)}, not {type(tree).__name__}"
        raise ParameterError(message)
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        lines = [f"{path} breaks {error.error_count()} rule(s):"]
        lines += [f"  {_explain(dict(problem), tree)}" for problem in error.errors()]
        raise ParameterError("\n".join(lines)) from error


def _explain(problem: dict[str, Any], tree: Mapping[str, Any]) -> str:
    """One line: full path, value, rule, and for a misspelt key the keys that exist."""
    location = _location_in(tree, problem["loc"])
    where = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key; {_known_keys(location)}"
    if problem["type"] == "missing":
        return f"{where}: missing; params.yaml is complete, add it"
    rule = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], Mapping):  # the rule names the values; a whole section would bury it
        return f"{where}: {rule}" if where else rule
    return f"{where or 'params'} = {problem['input']!r}: {rule}"


def _location_in(tree: Any, location: tuple[Any, ...]) -> tuple[Any, ...]:
    """Drop the parts that pydantic adds for union choices: they are not keys of the file."""
    kept: list[Any] = []
    for position, part in enumerate(location):
        in_mapping = isinstance(tree, Mapping) and part in tree
        in_list = isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        if in_mapping or in_list:
            tree = tree[part]
        elif position < len(location) - 1:
            continue
        kept.append(part)
    return tuple(kept)


def _known_keys(location: tuple[Any, ...]) -> str:
    section = Params
    for part in location[:-1]:
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return "see the comments in params.yaml for the known ones"
        section = annotation
    return f"known here: {', '.join(sorted(section.model_fields))}"
