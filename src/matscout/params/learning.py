"""Parameters of learning: targets, the shared recipe, the members, the ensemble."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, SerializeAsAny, ValidationInfo, field_validator

from matscout.params.section import Count, Fraction, NonNegative, Positive, Section, Seed


class Target(Section):
    """A property that the models learn."""

    label: str = Field(description="column of the curated table")
    noise: str | None = Field(description="column with the label's standard error; null = none")
    head: Literal["laplace", "hurdle", "log_laplace"] = Field(
        description="hurdle: a probability of exactly zero, then a value; log_laplace: above zero, errors are factors"
    )
    weight: Positive = Field(description="weight in the multi-task loss")


def base_target(name: str) -> str:
    """`band_gap` of `band_gap@oqmd`, the name of one database's head in a pretraining."""
    return name.partition("@")[0]


class Recipe(Section):
    """How every member is optimised: the section `model`, a word that users' commands hold (`-S model.lr=0.001`)."""

    lr: Positive = Field(description="peak learning rate of the schedule")
    batch_size: Count = Field(description="crystals per step")
    weight_decay: NonNegative
    grad_clip: Positive = Field(description="largest gradient norm")
    averaging: Annotated[float, Field(ge=0, lt=1)] = Field(description="decay of the weight average; 0 = off")
    warmup: Fraction = Field(description="share of the steps before the peak learning rate")
    schedule: Literal["one_cycle", "cosine"] = Field(
        description="schedule of the learning rate, see `training/trainer.py`"
    )
    early_stopping: Count | None = Field(
        description="epochs without a better validation loss after which training stops at the best one; null = never"
    )


class Compute(Section):
    """What decides the last bits of a result besides the data: threads, precision, device."""

    device: Literal["cpu", "cuda", "auto"]
    threads: Count = Field(description="torch threads of a training; another count gives other rounding")
    deterministic: bool
    precision: Literal["float32", "bfloat16"] = Field(
        description="precision of the encoders in training; prediction is float32"
    )
    compile: bool = Field(description="torch.compile the encoders: in training, and in screening on a GPU")
    processes: Count = Field(description="number of processes that share the training of a member, one per GPU or core")


class MemberGraph(Section):
    """The part of the stored graph that a member sees."""

    n_neighbors: Count = Field(description="nearest neighbours, ties at the last shell kept")
    cutoff: Positive = Field(description="Å; edges longer than this are dropped, but never an atom's nearest shell")


class MemberTraining(Section):
    """What a member changes in the shared recipe; `target_weights` and `start` may be left out."""

    epochs: Count
    lr_scale: Positive = Field(description="times model.lr")
    seed: Seed
    target_weights: dict[str, Positive] = Field(
        default_factory=dict, description="weight of each target in this member's loss, instead of targets.*.weight"
    )
    start: str | None = Field(
        default=None, description="folder of a trained member with the same encoder to start from; null = from scratch"
    )


class Encoder(Section):
    """Hyperparameters of an encoder; `architecture` is its name in `params.yaml` and in `models/architectures.py`."""

    architecture: ClassVar[str]
    hidden_dim: Count


class CGCNNEncoder(Encoder):
    """Hyperparameters of `CGCNN`."""

    architecture = "cgcnn"
    n_layers: Count
    n_radial: Count


class MEGNetEncoder(Encoder):
    """Hyperparameters of `MEGNet`."""

    architecture = "megnet"
    n_layers: Count
    n_radial: Count


class ALIGNNEncoder(Encoder):
    """Hyperparameters of `ALIGNN`."""

    architecture = "alignn"
    n_alignn_layers: Count
    n_gcn_layers: Count
    n_radial: Count
    n_angular: Count
    n_angle_neighbors: Count = Field(description="bonds per atom that form angles")


class CoGNEncoder(Encoder):
    """Hyperparameters of `CoGN`."""

    architecture = "cogn"
    n_layers: Count
    n_edge_layers: Count = Field(description="depth of the edge perceptron")
    n_atom_layers: Annotated[int, Field(ge=0)] = Field(description="depth of a perceptron on atoms before their mean")
    n_radial: Count


class ComFormerEncoder(Encoder):
    """Hyperparameters of `ComFormer`."""

    architecture = "comformer"
    n_layers: Count
    n_radial: Count
    n_angular: Count
    n_angle_neighbors: Count = Field(description="bonds per atom that form angles")


class CompositionEncoder(Encoder):
    """Hyperparameters of `CompositionTransformer`."""

    architecture = "composition"
    n_layers: Count
    n_heads: Count


class Member(Section):
    """A network: an encoder of some architecture, the graphs that it sees, and how it is trained."""

    architecture: str
    graph: MemberGraph
    encoder: SerializeAsAny[Encoder]
    training: MemberTraining

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in (known := list(encoders())):
            message = f"no such architecture; choose one of {known}"
            raise ValueError(message)
        return name

    @field_validator("encoder", mode="before")
    @classmethod
    def _has_its_hyperparameters(cls, encoder: Any, info: ValidationInfo) -> Any:
        if "architecture" not in info.data:  # which is told already
            return Encoder.model_construct()
        return encoders()[info.data["architecture"]].model_validate(encoder)


def encoders() -> dict[str, type[Encoder]]:
    """The hyperparameters' class of each architecture, by its name."""
    return {kind.architecture: kind for kind in Encoder.__subclasses__()}


class FineTuned(Section):
    """A member that begins with the weights of another."""

    model_config = ConfigDict(serialize_by_alias=True)  # `from` is a keyword of Python

    from_: str = Field(
        alias="from",
        pattern=r"^[A-Za-z0-9_./-]+$",
        description="folder of a trained member, such as data/pretrained/all",
    )
    heads: Literal["continued", "fresh"] = Field(
        description="continued: heads start from those of the start, if it has the target; fresh: from the labels alone"
    )
    member: Member


class Distilled(Section):
    """A fast member that learns the ensemble's answers, for `screening.cascade`."""

    crystals: Count = Field(
        description="candidates that the ensemble predicts for it; a fifth are held out from training"
    )
    member: Member


class Ensemble(Section):
    """How members become one calibrated prediction."""

    combine: Literal["median", "mean", "stack"] = Field(
        description="how the members' point estimates are combined; stack: weights fitted on the validation fold"
    )
    drop_factor: Annotated[float, Field(gt=1)] | None = Field(
        description="for known crystals, a member whose validation MAE exceeds this times that of the median member is "
        "left out (1.5 times for hypothetical ones); null = keep all"
    )
    surrogates: str = Field(
        pattern=r"^[A-Za-z0-9_./-]+$",
        description="folder of networks that learned a potential's energies, which predict hypothetical crystals "
        "beside the members; an empty folder = none",
    )
    bootstrap: Count = Field(description="resamples for the intervals of the metrics")
    seed: Seed
