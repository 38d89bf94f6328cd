"""What is to be trained: a block of `params.yaml`, what it learns, and the weights it begins with."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from matscout.errors import ParameterError
from matscout.params import Params, check_params
from matscout.training.runs.training_hashes import Provenance, provenance_of
from matscout.training.starting_weights import CONTINUED, Start, load_start


@dataclass(frozen=True)
class Plan:
    """One training.

    Attributes:
        name: of the member.
        params: the parameters that its training reads: `members` holds its own block alone, `targets` what it learns.
        pipeline: all of `params.yaml`, by which the tracker knows the pipeline run.
        start: folder of a trained member to begin with, in place of that of the member's `training.start`.
        heads: `continued` or `fresh`, see `load_start`.
        title: of the runs it belongs with in the tracker, where that is no run of the pipeline.
        run_name: its own in the tracker, where that is not `name`.
    """

    name: str
    params: Params
    pipeline: Params
    start: Path | None = None
    heads: str = CONTINUED
    title: str = ""
    run_name: str = ""

    def load_start(self) -> Start | None:
        """The weights to begin with, checked against the member: those of `start`, else of its `training.start`."""
        member, targets = self.params.members[self.name], self.params.targets
        start = self.start or (None if member.training.start is None else Path(member.training.start))
        if start is None:
            return None
        database = self.params.curation.offsets.reference
        return load_start(start, member, targets, heads=self.heads, database=database)

    def provenance(self, start: Start | None, hashes: Mapping[str, str]) -> Provenance:
        """What decides the weights, by the hashes of code and inputs (`training_hashes`)."""
        begins = None  # `training.start` is a parameter like others
        if start and self.start is not None:
            begins = {"weights_sha256": start.weights_sha256, "continued": sorted(start.heads)}
        own = provenance_of(self.name, self.params, hashes, start=begins)
        pipeline = self.pipeline.model_dump(mode="json")
        return replace(own, member=self.run_name or self.name, pipeline_parameters=pipeline, title=self.title)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for another process; `from_json` reads it back."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        trees = {key: content[key].model_dump(mode="json") for key in ("params", "pipeline")}
        return content | trees | {"start": None if self.start is None else str(self.start.resolve())}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From `to_json`."""
        trees = {key: check_params(content[key]) for key in ("params", "pipeline")}
        return cls(**{**content, **trees, "start": None if content["start"] is None else Path(content["start"])})


def plan_member(name: str, params: Params, start: Path | None = None) -> Plan:
    """The training of a block of `members` or `finetuned`.

    Args:
        name: key of either section.
        params: all parameters.
        start: folder of a trained member to begin with; by default what the block says.

    Raises:
        ParameterError: no such block.
    """
    if name in params.finetuned:
        block = params.finetuned[name]
        own = params.model_copy(update={"members": {name: block.member}, "finetuned": {}})
        return Plan(name, own, params, start or Path(block.from_), block.heads)
    if name not in params.members:
        raise ParameterError(f"member {name!r} is not in params.yaml; choose one of {sorted(params.ensembled)}")
    return Plan(name, params, params, start)
