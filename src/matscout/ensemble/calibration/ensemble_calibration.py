"""`calibration.json`: what turns the members' outputs into the ensemble's predictions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from matscout.ensemble.calibration.target_calibration import TargetCalibration
from matscout.errors import StoreError
from matscout.files import write_json

FORMAT_VERSION = 4
CALIBRATION_FILE = "calibration.json"
REFERENCE_FILE = "reference.npz"


@dataclass(frozen=True)
class EnsembleCalibration:
    """The ensemble's fitted state.

    Attributes:
        members: SHA-256 of each member's weights, in the members' order.
        targets: calibration by target, for crystals such as those that databases hold.
        hypothetical: the same for crystals that nobody has made, by target; a target that is not here has that of
            `targets`.
        metal_target: the hurdle target whose zeros are metals; null = none, one stratum.
        graphs: settings of the graphs that the members read (see `params.Graphs`).
        elements: symbols that every member saw in training.
    """

    members: dict[str, str]
    targets: dict[str, TargetCalibration]
    hypothetical: dict[str, TargetCalibration]
    metal_target: str | None
    graphs: dict[str, Any]
    elements: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        content = {
            "format_version": FORMAT_VERSION,
            "members": [{"name": name, "weights_sha256": sha256} for name, sha256 in self.members.items()],
            "targets": {name: target.to_json() for name, target in self.targets.items()},
            "target_order": list(self.targets),
            "hypothetical": {name: target.to_json() for name, target in self.hypothetical.items()},
            "metal_target": self.metal_target,
            "graphs": self.graphs,
            "elements": list(self.elements),
        }
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back.

        Raises:
            StoreError: the file is missing, cut off or of another format version.
        """
        try:
            return cls._from_json(json.loads(Path(path).read_text()))
        except FileNotFoundError as error:
            raise StoreError(f"{path} not found; run `dvc repro evaluate`, or fetch it (dvc pull)") from error
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{path} is cut off or of another format than {FORMAT_VERSION} ({error!r}); run `dvc repro evaluate`"
            ) from error

    @classmethod
    def _from_json(cls, content: Mapping[str, Any]) -> Self:
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {content['format_version']!r}")
        return cls(
            {member["name"]: member["weights_sha256"] for member in content["members"]},
            {name: TargetCalibration.from_json(content["targets"][name]) for name in content["target_order"]},
            {name: TargetCalibration.from_json(target) for name, target in sorted(content["hypothetical"].items())},
            content["metal_target"],
            content["graphs"],
            tuple(content["elements"]),
        )
