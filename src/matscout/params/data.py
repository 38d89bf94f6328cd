"""Parameters of the data: databases, curation, graphs, split."""

import re
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from matscout import columns
from matscout.params.section import Count, ElementSymbol, Fraction, NonNegative, Positive, Section, Seed, check_range


def _checked_label(name: str) -> str:
    """A name of a new column, which must not be one of the curated table's."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) or name in TAKEN:
        message = f"{name!r} is no name for a label: write small letters, digits and _, and none of our own columns"
        raise ValueError(message)
    return name


TAKEN = frozenset(value for value in vars(columns).values() if isinstance(value, str))
LabelName = Annotated[str, AfterValidator(_checked_label)]


class Query(Section):
    """What to ask a database for."""

    elements: tuple[ElementSymbol, ...] | None = Field(description="only crystals made of these elements; null = all")
    n_elements: tuple[Count, Count] = Field(description="fewest and most elements")
    n_atoms: tuple[Count, Count] = Field(description="fewest and most atoms per cell")
    energy_above_hull: NonNegative | None = Field(description="at most, eV/atom; null = any")
    limit: Count = Field(description="at most so many rows")

    @model_validator(mode="after")
    def _ranges_hold_something(self) -> Self:
        check_range("n_elements", *self.n_elements)
        check_range("n_atoms", *self.n_atoms)
        return self


class Service(Section):
    """How to ask a live service: politely, and how long to try."""

    page_size: Count = Field(description="rows per request")
    requests_per_second: Positive = Field(description="at most")
    patience: NonNegative = Field(description="seconds that one request may be retried; 0 = try once")


class FileImport(Section):
    """How to read the origin `file`."""

    format: Literal[
        "auto", "structure", "folder", "records", "cgcnn", "csv", "matbench", "extxyz", "optimade", "pymatgen",
        "lemat_bulk", "alexandria",
    ]  # fmt: skip
    columns: dict[str, str] = Field(description="column or key in the file for each label, if the names differ")
    units: dict[str, str] = Field(description="unit in the file for each label, if it differs from ours")
    labels: dict[LabelName, str] = Field(
        default_factory=dict, description="further labels to learn: column in the file by a name of your own"
    )
    functional: str = Field(description="functional of rows that do not state it, such as PBE")
    licence: str | None = Field(
        default=None, description="owner and licence; null = those of the database of that name"
    )


def _is_loopback(host: str) -> bool:
    """Whether a host is an address of this machine; `127.example.org` is a name that anyone may own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Database(Section):
    """Where one database's rows come from."""

    origin: Literal["sample", "api", "file", "bulk", "optimade"] = Field(
        description="bundled sample, the live service, a file, the service's bulk tables, or any OPTIMADE service"
    )
    path: str = Field(description="file or folder read by the origins `sample`, `file` and, without endpoint, `bulk`")
    endpoint: str | None = Field(description="base URL of the service; of the origin `bulk` s3://bucket/prefix")
    optimade_endpoint: str | None = Field(description="base URL of an OPTIMADE service; at OQMD of its coordinates")
    query: Query = Field(description="sent to the service; sample and file are read whole")
    service: Service
    file: FileImport

    @model_validator(mode="after")
    def _endpoints_keep_secrets(self) -> Self:
        """Check that no secret is sent unencrypted or kept in the record of a query."""
        for key in ("endpoint", "optimade_endpoint"):
            address = getattr(self, key)
            if address is None:
                continue
            parts = urlsplit(address)
            if parts.username or parts.password:
                message = f"{key} holds a name or a password, which would be stored with every run; leave it out"
                raise ValueError(message)
            if parts.query or parts.fragment:
                message = f"{key} continues with ? or #, and a key there would be stored with every run; leave it out"
                raise ValueError(message)
            if parts.scheme == "s3" and (self.origin, key) == ("bulk", "endpoint") and parts.hostname:
                continue
            is_here = parts.hostname == "localhost" or _is_loopback(parts.hostname or "")
            if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_here)):
                message = f"{key} = {address!r:.80} must begin with https:// (http:// only to this machine)"
                raise ValueError(message)
        return self


class Validity(Section):
    """Physical limits outside which a row is quarantined."""

    min_distance: Positive = Field(description="smallest distance between two atoms, Å")
    volume_per_atom: tuple[Positive, Positive] = Field(description="Å³/atom")
    formation_energy_per_atom: tuple[float, float] = Field(description="eV/atom")
    band_gap: tuple[float, float] = Field(description="eV")
    bulk_modulus: tuple[float, float] = Field(description="GPa")
    shear_modulus: tuple[float, float] = Field(description="GPa")
    max_atoms: Count
    outlier: Positive = Field(
        description="largest deviation of an energy from rows of the same chemistry, in robust standard deviations"
    )

    @model_validator(mode="after")
    def _ranges_hold_something(self) -> Self:
        for name in ("volume_per_atom", "formation_energy_per_atom", "band_gap", "bulk_modulus", "shear_modulus"):
            check_range(name, *getattr(self, name))
        return self


class Matching(Section):
    """Tolerances of pymatgen's StructureMatcher and of the space-group check."""

    ltol: Positive = Field(description="fractional length tolerance")
    stol: Positive = Field(description="site tolerance, in (volume per atom)^(1/3)")
    angle_tol: Positive = Field(description="degrees")
    symprec: Positive = Field(description="Å, for the space group of each cell")
    strain: Positive = Field(description="largest strain that may explain a difference of space groups")


class Offsets(Section):
    """Reference offsets between databases, fitted on their duplicates."""

    reference: str = Field(description="the database to whose energy scale the others are converted")
    min_pairs: Count = Field(description="least number of duplicate pairs for a fit")
    ridge: Positive = Field(description="shrinkage of element terms towards a constant, in pairs")
    bootstrap: Count = Field(description="resamples for the confidence intervals")
    seed: Seed


class Curation(Section):
    """From raw rows to one table."""

    validity: Validity
    matching: Matching
    offsets: Offsets


class OwnLabels(Section):
    """Hypothetical crystals of a user's own elements, labelled by the stage `label`."""

    n: Annotated[int, Field(ge=0)] = Field(
        description="crystals to draw and label, about 0.1 s of a core each; 0 = none"
    )
    elements: tuple[ElementSymbol, ...] | None = Field(description="elements that they may consist of; null = all")
    potential: str = Field(description="potential that labels them: a name as in `relaxation.potential`")
    seed: Seed


class Hypothetical(Section):
    """Crystals that nobody has made, labelled by a potential: they train the energy and judge nothing."""

    path: str = Field(description="folder of labels by a potential")
    n: Annotated[int, Field(ge=0)] = Field(description="labels to use, in their order; 0 = none")
    per_epoch: Annotated[int, Field(ge=0)] = Field(
        description="drawn again for each epoch, in addition to all known rows"
    )
    calibration: Fraction = Field(description="share kept out of training, to calibrate predictions of such crystals")
    own: OwnLabels

    @model_validator(mode="after")
    def _own_labels_have_an_error(self) -> Self:
        if self.own.n and not self.n:
            message = "own.n needs n above 0: the labels of `path` give the error of a potential's energies"
            raise ValueError(message)
        return self


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
    seed: Seed

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.validation + self.test >= 1:
            message = f"validation + test = {self.validation + self.test:g} leaves nothing to train on; keep it below 1"
            raise ValueError(message)
        return self
