"""`matscout register`: put the trained ensemble, with everything that it needs, into MLflow's model registry."""

import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

import matscout
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.ensemble.release import HULL, lowest_rows
from matscout.files import write_json, write_parquet
from matscout.layout import MATERIALS
from matscout.models.saved_member import CARD_FILE
from matscout.params import Validity
from matscout.training.tracking import EXPERIMENT, experiment_id, tracking_uri
from matscout.training.training import git_commit

# packages that a serving machine must install; matscout's own code is part of the model
REQUIREMENTS = (
    "ase",
    "moyopy",
    "numba",
    "numpy",
    "pandas",
    "paretoset",
    "pyarrow",
    "pydantic",
    "pymatgen",
    "pyyaml",
    "safetensors",
    "scikit-learn",
    "scipy",
    "smact",
    "threadpoolctl",
    "torch",
    "torch-geometric",
    "tqdm",
)


@dataclass(frozen=True)
class Registered:
    """A version of the model: its `uri`, such as `models:/matscout/1`, and the store that holds it."""

    uri: str
    store: str


def register_ensemble(
    name: str, *, members: Path, ensemble: Path, limits: Validity, materials: Path = MATERIALS
) -> Registered:
    """Log the ensemble as a pyfunc model with signature and input example, and register it under `name`.

    Args:
        name: in MLflow's model registry; each call adds a version.
        members: folder of the members.
        ensemble: folder of the calibration.
        limits: limits of a cell that can be predicted.
        materials: curated table, for the known phases.

    Returns:
        The model's address and the registry's.

    Raises:
        StoreError: a member or the calibration is missing or does not fit.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    predictor = EnsemblePredictor.load(
        members, ensemble
    )  # fails before anything is logged if the ensemble cannot predict
    import mlflow
    from mlflow.models import infer_signature

    from matscout.serving import served_model

    mlflow.set_tracking_uri(tracking_uri())
    example = pd.DataFrame({served_model.CIF: [served_model.ROCK_SALT]})
    with TemporaryDirectory() as folder, mlflow.start_run(experiment_id=experiment_id(), run_name=f"register {name}"):
        validity, hull = Path(folder) / "validity.json", Path(folder) / HULL
        write_parquet(hull, lowest_rows(materials))
        answer = served_model.predict_cifs([served_model.ROCK_SALT], predictor, limits, hull)
        signature = infer_signature(example, answer.drop(columns="error"))
        write_json(validity, limits.model_dump(mode="json"))
        model = mlflow.pyfunc.log_model(
            name=EXPERIMENT,
            python_model=served_model.__file__,
            artifacts={
                "members": str(members),
                "ensemble": str(ensemble),
                "hull": str(hull),
                "validity": str(validity),
            },
            code_paths=[str(Path(matscout.__file__).parent)],
            signature=signature,
            input_example=example,
            pip_requirements=pinned(),
            registered_model_name=name,
            metadata={"git_commit": git_commit(), "members": _weights(members, predictor)},
        )
    return Registered(f"models:/{name}/{model.registered_model_version}", tracking_uri())


def pinned() -> list[str]:
    """The requirements of the serving machine, as pip writes them: public versions of the packages installed here.

    A build such as `2.13.0+cpu` is only on its own package index; `2.13.0` is met by it and by every other build.
    """
    return [f"{package}=={version(package).partition('+')[0]}" for package in (*REQUIREMENTS, "mlflow")]


def _weights(members: Path, predictor: EnsemblePredictor) -> dict[str, str]:
    """SHA-256 of each member's weights."""
    names = [member.name for member in predictor.members]
    return {name: json.loads((members / name / CARD_FILE).read_text())["weights_sha256"] for name in names}
