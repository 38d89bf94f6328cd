"""`params.yaml` as frozen models: every value the user may want to change, with its unit and range.

The file is complete and the only place of a default; a misspelt or missing key, or a value out of
range, fails with its full path before any work begins.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from matscout.errors import ParameterError

PARAMS_FILE = Path("params.yaml")

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A block of `params.yaml`: frozen, complete, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------------------------- databases
class Query(Section):
    """What to ask a database for."""

    elements: tuple[str, ...] | None = Field(description="only crystals made of these elements; null = all")
    n_elements: tuple[Count, Count] = Field(description="fewest and most elements")
    n_atoms: tuple[Count, Count] = Field(description="fewest and most atoms per cell")
    energy_above_hull: Annotated[float, Field(ge=0)] | None = Field(description="at most, eV/atom; null = any")
    limit: Count = Field(description="at most so many rows")


class Database(Section):
    """Where one database's rows come from."""

    origin: Literal["sample", "api", "file"] = Field(description="bundled sample, the live service, or a file")
    path: str = Field(description="file or folder read by the origins `sample` and `file`")
    endpoint: str | None = Field(description="base URL of the service, for the origin `api`")
    optimade_endpoint: str | None = Field(description="base URL of the OPTIMADE service (OQMD coordinates)")
    query: Query


# ---------------------------------------------------------------------------------- curation
class Validity(Section):
    """Physical limits outside which a row is quarantined."""

    min_distance: Positive = Field(description="smallest distance between two atoms, Å")
    volume_per_atom: tuple[Positive, Positive] = Field(description="Å³/atom")
    formation_energy_per_atom: tuple[float, float] = Field(description="eV/atom")
    band_gap: tuple[float, float] = Field(description="eV")
    max_atoms: Count


class Matching(Section):
    """Tolerances of pymatgen's StructureMatcher and of the space-group check."""

    ltol: Positive = Field(description="fractional length tolerance")
    stol: Positive = Field(description="site tolerance, in (volume per atom)^(1/3)")
    angle_tol: Positive = Field(description="degrees")
    symprec: Positive = Field(description="Å, for the space group of each cell")


class Offsets(Section):
    """Reference offsets between databases, fitted on their duplicates."""

    reference: str = Field(description="the database whose energy scale the others are moved to")
    min_pairs: Count = Field(description="fewer duplicate pairs than this and no offset is fitted")
    ridge: Positive = Field(description="shrinkage of element terms towards a constant, in pairs")
    bootstrap: Count = Field(description="resamples for the confidence intervals")
    seed: int


class Curation(Section):
    """From raw rows to one table."""

    validity: Validity
    matching: Matching
    offsets: Offsets


# ---------------------------------------------------------------------------------- graphs, split
class Graphs(Section):
    """Neighbour graphs; members take the nearest part of them."""

    n_neighbors: Count = Field(description="nearest neighbours stored per atom; ties at the last shell are kept")
    asymmetric_unit: bool = Field(description="store symmetry-inequivalent atoms only, with multiplicities")
    symprec: Positive = Field(description="Å, symmetry tolerance of the asymmetric unit")


class Split(Section):
    """Which rows train, validate and test."""

    strategy: Literal["random", "composition", "prototype", "database", "time"]
    validation: Fraction
    test: Fraction
    held_out: str | None = Field(description="the database held out by the strategy `database`")
    train_on_synthetic: bool = Field(description="let rows marked synthetic into the training fold")
    seed: int

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.validation + self.test >= 1:
            message = f"validation + test = {self.validation + self.test:g} leaves nothing to train on; keep it below 1"
            raise ValueError(message)
        return self


# ---------------------------------------------------------------------------------- targets, members
class Target(Section):
    """A property that the models learn."""

    label: str = Field(description="column of the curated table")
    noise: str | None = Field(description="column with the label's standard error; null = none")
    head: Literal["laplace", "hurdle"] = Field(description="hurdle: a probability of exactly zero, then a value")
    weight: Positive = Field(description="weight in the multi-task loss")


class Model(Section):
    """The training recipe that every member shares."""

    lr: Positive = Field(description="peak learning rate of the one-cycle schedule")
    batch_size: Count = Field(description="crystals per step")
    weight_decay: Annotated[float, Field(ge=0)]
    grad_clip: Positive = Field(description="largest gradient norm")
    averaging: Annotated[float, Field(ge=0, lt=1)] = Field(description="decay of the weight average; 0 = off")
    warmup: Fraction = Field(description="share of the steps before the peak learning rate")


class Compute(Section):
    """What decides bytes beside the data: threads, precision, device."""

    device: Literal["cpu", "cuda", "auto"]
    threads: Count = Field(description="torch threads; another count gives other rounding")
    deterministic: bool


class MemberGraph(Section):
    """The part of the stored graph that a member sees."""

    n_neighbors: Count = Field(description="nearest neighbours, ties at the last shell kept")
    cutoff: Positive = Field(description="Å; edges longer than this are dropped, but never an atom's nearest shell")


class MemberTraining(Section):
    """What a member changes in the shared recipe."""

    epochs: Count
    lr_scale: Positive = Field(description="times model.lr")
    seed: int


class CGCNNEncoder(Section):
    """Hyperparameters of `CGCNN`."""

    hidden_dim: Count
    n_layers: Count
    n_radial: Count


class MEGNetEncoder(Section):
    """Hyperparameters of `MEGNet`."""

    hidden_dim: Count
    n_layers: Count
    n_radial: Count


class ALIGNNEncoder(Section):
    """Hyperparameters of `ALIGNN`."""

    hidden_dim: Count
    n_alignn_layers: Count
    n_gcn_layers: Count
    n_radial: Count
    n_angular: Count
    n_angle_neighbors: Count = Field(description="bonds per atom that form angles")


class CoGNEncoder(Section):
    """Hyperparameters of `CoGN`."""

    hidden_dim: Count
    n_layers: Count
    n_radial: Count


class ComFormerEncoder(Section):
    """Hyperparameters of `ComFormer`."""

    hidden_dim: Count
    n_layers: Count
    n_heads: Count
    n_radial: Count


class CompositionEncoder(Section):
    """Hyperparameters of `CompositionTransformer`."""

    hidden_dim: Count
    n_layers: Count
    n_heads: Count


class _Member(Section):
    graph: MemberGraph
    training: MemberTraining


class CGCNNMember(_Member):
    """A member with the CGCNN architecture."""

    architecture: Literal["cgcnn"]
    encoder: CGCNNEncoder


class MEGNetMember(_Member):
    """A member with the MEGNet architecture."""

    architecture: Literal["megnet"]
    encoder: MEGNetEncoder


class ALIGNNMember(_Member):
    """A member with the ALIGNN architecture."""

    architecture: Literal["alignn"]
    encoder: ALIGNNEncoder


class CoGNMember(_Member):
    """A member with the coGN architecture."""

    architecture: Literal["cogn"]
    encoder: CoGNEncoder


class ComFormerMember(_Member):
    """A member with the invariant ComFormer architecture."""

    architecture: Literal["comformer"]
    encoder: ComFormerEncoder


class CompositionMember(_Member):
    """A member that sees the formula only."""

    architecture: Literal["composition"]
    encoder: CompositionEncoder


Member = Annotated[
    CGCNNMember | MEGNetMember | ALIGNNMember | CoGNMember | ComFormerMember | CompositionMember,
    Field(discriminator="architecture"),
]


# ---------------------------------------------------------------------------------- ensemble, discovery
class Ensemble(Section):
    """How members become one calibrated prediction."""

    combine: Literal["median", "mean"]
    drop_factor: Annotated[float, Field(gt=1)] | None = Field(
        description="a member whose validation MAE exceeds this times the median member's is left out; null = keep all"
    )
    bootstrap: Count = Field(description="resamples for the intervals of the metrics")
    seed: int


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


# ---------------------------------------------------------------------------------- the whole tree
class Params(Section):
    """All of `params.yaml`."""

    databases: Annotated[dict[str, Database], Field(min_length=1)]
    curation: Curation
    graphs: Graphs
    split: Split
    targets: Annotated[dict[str, Target], Field(min_length=1)]
    model: Model
    compute: Compute
    members: Annotated[dict[str, Member], Field(min_length=1)]
    ensemble: Ensemble
    candidates: Candidates
    screening: Screening

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.curation.offsets.reference not in self.databases:
            message = (
                f"curation.offsets.reference = {self.curation.offsets.reference!r} is no database; "
                f"choose one of {sorted(self.databases)}"
            )
            raise ValueError(message)
        for name, member in self.members.items():
            if member.graph.n_neighbors > self.graphs.n_neighbors:
                message = (
                    f"members.{name}.graph.n_neighbors = {member.graph.n_neighbors} exceeds "
                    f"graphs.n_neighbors = {self.graphs.n_neighbors}; raise the latter or lower the former"
                )
                raise ValueError(message)
        return self


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole of `params.yaml`.

    Raises:
        ParameterError: the file is missing, is no YAML mapping, or breaks a rule; the message names
            every offending key with its full path, its value and what is allowed.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        message = f"{path} not found: run from the repository root, or pass --params"
        raise ParameterError(message) from error
    except yaml.YAMLError as error:
        message = f"{path} is not valid YAML: {error}"
        raise ParameterError(message) from error
    return check_params(tree, path)


def check_params(tree: object, path: Path = PARAMS_FILE) -> Params:
    """Check a tree read from `path` (see `load_params`)."""
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
    return f"{where or 'params'} = {problem['input']!r}: {rule}" if where else rule


def _location_in(tree: Any, location: tuple[Any, ...]) -> tuple[Any, ...]:
    """Drop the parts that pydantic adds for union choices: they are no keys of the file."""
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
