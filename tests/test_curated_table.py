"""The curated table: each view has the rows and columns that it promises, and an error says what to do."""

import pandas as pd
import pytest

from matscout import columns
from matscout.curated_table import CuratedTable, load_materials_database
from matscout.errors import InputError

ROWS = pd.DataFrame(
    {
        "material_id": ["b", "a", "c"],
        "source": ["oqmd", "aflow", "oqmd"],
        "synthetic": [False, True, False],
        "species": [["Na", "Cl"], ["Na"], ["Cl"]],
        "lattice": [[1.0] * 9] * 3,
        "frac_coords": [[0.0] * 6, [0.0] * 3, [0.0] * 3],
        "formation_energy_aligned": [-2.0, -1.0, float("nan")],
        "formation_energy_aligned_std": [0.1, 0.2, 0.3],
        "band_gap": [5.0, float("nan"), 0.0],
    }
)


@pytest.fixture
def write(tmp_path):
    def written(rows):
        rows.to_parquet(tmp_path / "materials.parquet")
        return CuratedTable(tmp_path / "materials.parquet")

    return written


def test_rows_keep_the_order_of_the_file_and_have_the_columns_asked_for(write):
    table = write(ROWS).rows(["band_gap", "material_id"], optional=["source", "calculation"])
    assert list(table.columns) == ["band_gap", "material_id", "source"]
    assert table["material_id"].tolist() == ["b", "a", "c"]


def test_phases_are_real_rows_with_an_energy(write):
    phases = write(ROWS).phases()
    assert phases["material_id"].tolist() == ["b"]
    assert "formation_energy_aligned_std" in phases
    assert "formation_energy_noise" not in phases


def test_labels_come_from_dft_unless_the_table_says_otherwise(write):
    table = write(ROWS).labels(["band_gap"])
    assert list(table.columns) == ["material_id", "synthetic", "calculation", "band_gap"]
    assert set(table["calculation"]) == {columns.BY_DFT}
    told = write(ROWS.assign(calculation="potential")).labels(["band_gap"])
    assert set(told["calculation"]) == {"potential"}


def test_folds_are_joined_by_id_and_rows_without_one_are_left_out_or_named(write, tmp_path):
    pd.DataFrame({"material_id": ["c", "b"], "fold": ["test", "train"]}).to_parquet(tmp_path / "split.parquet")
    table = write(ROWS)
    found = table.with_folds(tmp_path / "split.parquet", ["band_gap"])
    assert found.to_dict("list") == {"material_id": ["b", "c"], "band_gap": [5.0, 0.0], "fold": ["train", "test"]}
    with pytest.raises(InputError, match=r"1 rows of .* have no fold in .*split.parquet, such as a; run `dvc repro"):
        table.with_folds(tmp_path / "split.parquet", complete=True)


def test_sources_are_by_id(write):
    assert write(ROWS).sources() == {"a": "aflow", "b": "oqmd", "c": "oqmd"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS.iloc[:0], "has no rows; look into quarantine.parquet"),
        (pd.concat([ROWS, ROWS.iloc[1:]]), "material_id a occurs 2 times; it must be unique"),
        (ROWS.drop(columns="species"), r"lacks the columns \['species'\]: rerun the stage `curate`"),
    ],
)
def test_crystals_of_a_table_that_cannot_be_used_are_rejected(write, rows, message):
    with pytest.raises(InputError, match=message):
        write(rows).crystals()


def test_a_table_that_is_not_there_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(InputError, match=r"materials.parquet not found: run `dvc repro curate`"):
        load_materials_database(tmp_path)
