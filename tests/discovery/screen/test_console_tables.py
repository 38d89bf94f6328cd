"""Tables for the terminal: what is said of a row, and what fits."""

import pandas as pd
import pytest

from matscout.discovery.screen.console_tables import energy_above_hull, json_rows, phases, remarks, table_lines


def row(**changes):
    base = {
        "energy_above_hull": -0.64,
        "energy_above_hull_lo90": -0.71,
        "energy_above_hull_hi90": -0.56,
        "stability_judged": True,
        "stability_remark": "",
        "competing_phases": "0.60 SrO (mp-2472) + 0.40 TiO2 (ms-5026665765a8, predicted)",
    }
    return base | changes


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "-0.64 (-0.71 to -0.56)"),
        ({"energy_above_hull": -0.004, "energy_above_hull_hi90": 0.05}, "0.00 (-0.71 to 0.05)"),
        ({"stability_judged": False}, "not judged"),  # rivals are missing: they could only raise it
        ({"stability_judged": False, "energy_above_hull": 0.12}, "0.12 or more"),
    ],
)
def test_an_energy_above_a_hull_that_lacks_rivals_claims_nothing(changes, text):
    assert energy_above_hull(row(**changes)) == text


def test_remarks_say_what_matters():
    said = remarks(
        row(
            stability_judged=False,
            stability_remark="no Se-Y phase known",
            far_from_training=True,
            unseen_elements="Po",
            cell_remark="a layer in vacuum? no atom in 8.0 Å along c",
            known_formula="mp-149",
        )
    )
    assert said == [
        *(
            "never trained on Po",
            "a layer in vacuum? no atom in 8.0 Å along c",
            "far from training",
            "stability not judged: no Se-Y phase known",
            "known formula (mp-149)",
        )
    ]
    assert remarks(row()) == []
    assert phases(row()) == "0.60 SrO + 0.40 TiO2"
    assert phases(row(competing_phases="1.00 NaCl (mp-22862)")) == "NaCl"


def test_the_last_column_is_cut_or_stands_below():
    table = pd.DataFrame({"formula": ["NaCl", "KBr"], "gap": ["5.0", "4.3"], "remarks": ["x" * 200, ""]})
    wide, narrow = table_lines(table, width=60), table_lines(table, width=30)
    assert [len(line) <= 60 for line in wide] == [True] * 3
    assert wide[1].endswith("…")
    assert narrow[:3] == ["formula  gap", "NaCl     5.0", f"    {'x' * 25}…"]
    assert narrow[3] == "KBr      4.3"


def test_json_has_plain_numbers_and_null_for_what_is_not_finite():
    table = pd.DataFrame({"a": [1.5, float("nan")], "b": [True, False], "c": [[1, 2], [3]]})
    assert json_rows(table) == [{"a": 1.5, "b": True, "c": [1, 2]}, {"a": None, "b": False, "c": [3]}]


def test_a_narrow_terminal_has_intervals_below_values_and_no_line_that_wraps():
    table = pd.DataFrame(
        {
            "rank": [1, 2],
            "crystal": ["si", "a_name_of_mine"],
            "formula": ["Si", "Ba3In2Br12"],
            "PBE gap, eV": ["0.55 (0.00 to 1.24)"] * 2,
            "formation, eV/at.": ["-3.16 (-3.40 to -2.91)"] * 2,
            "above hull, eV/at.": ["0.09 (-0.28 to 0.45)", "not judged"],
            "meets goal": ["9 %", "100 %"],
            "remarks": ["known formula (mp-149)", ""],
        }
    )
    lines = table_lines(table, width=80)
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[:2]] == [
        ["rank", "crystal", "formula", "PBE", "gap", "formation", "above", "hull", "meets"],
        ["eV", "eV/at.", "eV/at.", "goal"],
    ]
    assert lines[3].split("  ")[-3:] == ["0.00 to 1.24", "-3.40 to -2.91", "-0.28 to 0.45"]
    assert lines[4].strip() == "known formula (mp-149)"
    assert lines[5].startswith("2     a_name_of…")
    assert len(table_lines(table, width=120)) == 4
