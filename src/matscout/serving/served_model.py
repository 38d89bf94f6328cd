"""The ensemble as an MLflow model, defined by this file (models from code): CIF texts in, predictions out.

MLflow runs this file when it loads the model. No pickle is involved: the artifacts beside it are the
members' safetensors, the calibration, the known phases and the limits of a usable crystal.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from matscout import columns
from matscout.discovery.screen.user_crystals import ERROR, predict_texts  # noqa: F401 -- ERROR is a column of the answers
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.params import Validity

CIF = "cif"
MOST_CHARACTERS = 1 << 20  # characters of one text: a request has a minute, and no crystal of 200 atoms needs so many
ROCK_SALT = """data_NaCl
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_symmetry_Int_Tables_number 225
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na 0 0 0
Cl 0.5 0.5 0.5
"""


class EnsembleModel(PythonModel):
    """Predicts as `matscout predict` does, by the same functions."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the members and their calibration once, when the server starts.

        One crystal is predicted at once: the first prediction may compile machine code for up to a minute, which is the
        time limit of a request to MLflow's server.
        """
        folders = {name: Path(path) for name, path in context.artifacts.items()}
        self.predictor = EnsemblePredictor.load(folders["members"], folders["ensemble"])
        self.hull = folders["hull"]
        self.limits = Validity.model_validate(json.loads(folders["validity"].read_text()))
        predict_cifs([ROCK_SALT], self.predictor, self.limits, self.hull)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Predict one row for each given row, in their order.

        Args:
            context: unused; see `load_context`.
            model_input: `cif`, the text of a file; `material_id`, if it should come back.
            params: unused; part of MLflow's signature.

        Returns:
            the columns of `matscout predict`, None if a crystal cannot be used; `error` says why.
        """
        predictions = predict_cifs(list(model_input[CIF]), self.predictor, self.limits, self.hull)
        if columns.MATERIAL_ID in model_input:
            predictions[columns.MATERIAL_ID] = list(model_input[columns.MATERIAL_ID])
        plain = predictions.astype(object)
        return plain.where(predictions.notna(), None)  # NaN is no JSON


def predict_cifs(cifs: Sequence[Any], predictor: EnsemblePredictor, limits: Validity, hull: Path) -> pd.DataFrame:
    """Predict CIF texts, named by their position; see `EnsembleModel.predict`.

    Args:
        cifs: texts; anything else is answered with an error.
        predictor: the ensemble.
        limits: limits of a cell that can be predicted.
        hull: table of known phases.

    Returns:
        One row per text, in order, with `error` if it cannot be used.
    """
    texts = {f"{number:06d}": cif for number, cif in enumerate(cifs)}
    return predict_texts(texts, predictor, limits, materials=hull, most=MOST_CHARACTERS)


set_model(EnsembleModel())
