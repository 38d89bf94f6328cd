"""The convex hull against pymatgen's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from matscout.discovery.stability import References, energies_above_hull
from matscout.errors import InputError

ELEMENTS = ("Li", "Mn", "O", "P")


def atoms(formula):
    return [str(e) for e, n in Composition(formula).items() for _ in range(int(n))]


@st.composite
def systems(draw):
    """Random compounds of up to four elements with random energies, and one composition to decompose."""
    n_elements = draw(st.integers(1, 4))
    amounts = st.lists(st.integers(0, 4), min_size=n_elements, max_size=n_elements).filter(any)
    compounds = draw(st.lists(st.tuples(amounts, st.floats(-3, 0.5)), max_size=15))
    aim = draw(st.lists(st.integers(1, 5), min_size=n_elements, max_size=n_elements))
    return ELEMENTS[:n_elements], compounds, aim


@settings(max_examples=60, deadline=None)
@given(systems())
def test_the_hull_is_that_of_pymatgen(system):
    elements, compounds, aim = system
    rows = [
        (f"row-{i}", [e for e, n in zip(elements, amounts, strict=True) for _ in range(n)], energy)
        for i, (amounts, energy) in enumerate(compounds)
    ]
    rows = [(*row, 0.0) for row in rows]
    entries = [PDEntry(Composition(dict.fromkeys([e], 1)), 0.0) for e in elements]
    entries += [PDEntry(Composition("".join(species)), energy * len(species)) for _, species, energy, _ in rows]
    diagram = PhaseDiagram(entries, elements=[Element(e) for e in elements])
    expected = diagram.get_hull_energy_per_atom(Composition(dict(zip(elements, aim, strict=True))))
    found = References.from_rows(rows).decompose(dict(zip(elements, aim, strict=True)))
    assert found.energy == pytest.approx(expected, abs=1e-9)
    assert sum(share for _, share in found.phases) == pytest.approx(1)
    assert sum(share * phase.energy for phase, share in found.phases) == pytest.approx(found.energy)
    for element, amount in zip(elements, aim, strict=True):  # atoms are conserved
        held = sum(share * phase.fractions.get(element, 0.0) for phase, share in found.phases)
        assert held == pytest.approx(amount / sum(aim))


def test_competing_phases_are_named_and_the_missing_ones_too():
    references = References.from_rows(
        [("mp-1", atoms("SrO"), -3.0, 0.1), ("mp-2", atoms("TiO2"), -3.3, 0.2), ("mp-3", atoms("O"), 0.0, 0.5)]
    )
    found = references.decompose({"Sr": 1, "Ti": 1, "O": 3})
    assert found.text == "0.60 TiO2 (mp-2) + 0.40 SrO (mp-1)"
    assert found.energy == pytest.approx(0.6 * -3.3 + 0.4 * -3.0)
    assert found.missing == ("Sr", "Ti", "Sr-Ti")
    assert found.std == pytest.approx(np.hypot(0.4 * 0.1, 0.6 * 0.2))


def test_the_most_stable_polymorph_counts():
    rows = [("high", atoms("SiO2"), -2.9, 0.0), ("low", atoms("SiO2"), -3.1, 0.0), ("dimer", atoms("Si2O4"), -3.0, 0.0)]
    references = References.from_rows(rows)
    above = energies_above_hull(references, [{"Si": 1, "O": 2}] * 2, np.array([-2.9, -3.2]))
    np.testing.assert_allclose(above, [0.2, -0.1])


def test_an_element_without_a_row_has_energy_zero_by_definition():
    found = References.from_rows([("mp-1", atoms("NaCl"), -2.0, 0.0)]).decompose({"K": 1, "Br": 1})
    assert found.energy == 0
    assert found.missing == ("Br", "K", "Br-K")


def test_synthetic_rows_are_no_references(materials, tmp_path):
    import pandas as pd

    table = pd.read_parquet(materials).assign(synthetic=True)
    table.to_parquet(tmp_path / "synthetic.parquet")
    with pytest.raises(InputError, match="no genuine row"):
        References.read(tmp_path / "synthetic.parquet")


def test_no_known_row_lies_below_the_hull(materials, sample_records):
    references = References.read(materials)
    records = [r for r in sample_records if r.formation_energy_per_atom is not None][::5]
    energies = np.array([r.formation_energy_per_atom for r in records])
    assert energies_above_hull(references, [r.crystal.element_counts for r in records], energies).min() > -1e-9


def test_stability_is_judged_only_where_every_element_has_a_rival_compound():
    rows = [("mp-1", atoms("ZnS"), -1.0, 0.0), ("mp-2", atoms("CuS"), -0.5, 0.0), ("mp-3", atoms("Ho"), 0.0, 0.0)]
    references = References.from_rows(rows)
    assert references.decompose({"Zn": 1, "Cu": 1, "S": 2}).is_judged
    lone = references.decompose({"Ho": 2, "Zn": 1, "S": 4})  # no holmium compound is known: anything looks stable
    assert not lone.is_judged
    assert lone.missing == ("S", "Zn", "Ho-S", "Ho-Zn")


def test_drawn_hulls_are_those_of_drawn_phases():
    """Brute force: the same normal numbers, one hull of pymatgen for each draw."""
    rows = [("mp-1", atoms("LiO"), -1.0, 0.3), ("mp-2", atoms("Li2O"), -1.2, 0.3), ("mp-3", atoms("LiO2"), -0.7, 0.0)]
    aims, n_draws = [{"Li": 3, "O": 2}, {"Li": 1, "O": 3}, {"Li": 1, "O": 1}], 40
    drawn = References.from_rows(rows).draw_hulls(aims, n_draws, np.random.default_rng(5))
    errors = np.random.default_rng(5).standard_normal((2, n_draws))  # of mp-1 and mp-2, in the order of their ids
    for draw in range(n_draws):
        energies = [-1.0 + 0.3 * errors[0, draw], -1.2 + 0.3 * errors[1, draw], -0.7]
        entries = [PDEntry(Composition(e), 0.0) for e in ("Li", "O")]
        entries += [PDEntry(Composition("".join(r[1])), e * len(r[1])) for r, e in zip(rows, energies, strict=True)]
        diagram = PhaseDiagram(entries)
        expected = [diagram.get_hull_energy_per_atom(Composition(aim)) for aim in aims]
        np.testing.assert_allclose(drawn[draw], expected, atol=1e-9)
    assert np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1] > 0.2  # they share phases, so they err together


def test_label_noise_and_alignment_are_the_phases_errors(materials, tmp_path):
    import pandas as pd

    table = pd.read_parquet(materials).assign(formation_energy_noise=0.03, formation_energy_aligned_std=0.04)
    table.loc[table.index[::2], "formation_energy_noise"] = np.nan  # unknown: nothing can be said
    table.to_parquet(tmp_path / "noisy.parquet")
    phases = [phase for found in References.read(tmp_path / "noisy.parquet").phases.values() for phase in found]
    assert {round(phase.std, 12) for phase in phases if len(phase.counts) > 1} == {0.05, 0.04}
    assert {phase.std for phase in phases if len(phase.counts) == 1} <= {0.0}  # zero by definition
