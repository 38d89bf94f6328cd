"""The convex hull of known phases, stand-ins and candidates, against pymatgen's."""

import gzip
import json
import os
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from matscout import columns
from matscout.discovery.stability import competing_phases as phases
from matscout.discovery.stability.competing_phases import Rivals
from matscout.discovery.stability.energy_above_hull import DEEPEST, References, energies_above_hull, remark_on
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
    compounds = [row for row in rows if len(set(row[1])) > 1]  # an element has energy zero, whatever its rows say
    entries += [PDEntry(Composition("".join(species)), energy * len(species)) for _, species, energy, _ in compounds]
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


@pytest.mark.parametrize("energy", [-0.2, -0.004, 0.0, 0.1])
def test_a_row_of_an_element_does_not_shift_the_hull(energy):
    """As in a set whose own element rows lie some meV/atom below zero: distances stay those of the compounds."""
    compounds = [("mp-1", atoms("MnPd"), -0.3, 0.0), ("mp-2", atoms("PdPt3"), -0.1, 0.0)]
    compositions = [{"Mn": 1, "Pd": 1}, {"Mn": 1, "Pt": 1}, {"Mn": 2, "Pd": 1, "Pt": 1}]
    plain = References.from_rows(compounds)
    with_element = References.from_rows([*compounds, ("mp-3", atoms("Mn"), energy, 0.0)])
    np.testing.assert_array_equal(with_element.hull_energies(compositions), plain.hull_energies(compositions))
    found = with_element.decompose({"Mn": 3, "Pd": 1})
    assert found.missing == ("Pd",)
    assert ("mp-3" in found.text) == (energy <= 0)


SYSTEMS = ("Li-Co-Ni-O", "Li-Fe-P-O", "Na-Fe-P-O", "Si-O-K-Al")
HULLS = Path(os.environ.get("MATSCOUT_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "hull_mp_systems"


@pytest.mark.skipif(not HULLS.is_dir(), reason=f"no published hulls at {HULLS}")
@pytest.mark.parametrize("system", SYSTEMS)
def test_published_energies_above_hull_are_reproduced(system):
    """The Materials Project's entries of a quaternary system: energy and correction to distances, to the last digits."""
    lines = gzip.decompress((HULLS / f"{system}.jsonl.gz").read_bytes()).splitlines()
    entries = [json.loads(line) for line in lines]
    counts = [entry["composition"] for entry in entries]
    n_atoms = np.array([sum(count.values()) for count in counts])
    total = np.array([entry["energy"] + entry["correction"] for entry in entries]) / n_atoms
    lowest = {e: total[[set(count) == {e} for count in counts]].min() for e in system.split("-")}
    elements = [sum(n * lowest[e] for e, n in count.items()) / sum(count.values()) for count in counts]
    formed = total - np.array(elements)
    np.testing.assert_allclose(formed, [entry["e_form_per_atom"] for entry in entries], atol=1e-12)
    rows = [(entry["entry_id"], entry["species"], energy, 0.0) for entry, energy in zip(entries, formed, strict=True)]
    above = energies_above_hull(References.from_rows(rows), counts, formed)
    published = np.array([entry["e_above_hull"] for entry in entries])
    worst = np.abs(above - published).max()
    assert worst < 1e-12, f"{system}: {worst:.1e} eV/atom"


def test_an_element_without_a_row_has_energy_zero_by_definition():
    found = References.from_rows([("mp-1", atoms("NaCl"), -2.0, 0.0)]).decompose({"K": 1, "Br": 1})
    assert found.energy == 0
    assert found.missing == ("Br", "K", "Br-K")


def test_synthetic_rows_are_no_references(materials, tmp_path):
    table = pd.read_parquet(materials).assign(synthetic=True)
    table.to_parquet(tmp_path / "synthetic.parquet")
    with pytest.raises(InputError, match="no real row"):
        References.read(tmp_path / "synthetic.parquet")


def test_no_known_row_lies_below_the_hull(materials, sample_records):
    references = References.read(materials)
    records = [r for r in sample_records if r.formation_energy_per_atom is not None][::5]
    energies = np.array([r.formation_energy_per_atom for r in records])
    assert energies_above_hull(references, [r.crystal.element_counts for r in records], energies).min() > -1e-9


def candidates_of(rows):
    """A table of candidates from (id, species, eV/atom, its error, eV/atom above the known hull)."""
    names = [columns.CANDIDATE_ID, columns.SPECIES, columns.FORMATION_ENERGY]
    names += [columns.FORMATION_ENERGY + columns.STD, columns.ENERGY_ABOVE_KNOWN_HULL]
    return pd.DataFrame(rows, columns=names)


def among(references, rows):
    """The references with the rivals among (id, species, eV/atom, its error)."""
    compositions, energies = [Counter(row[1]) for row in rows], np.array([row[2] for row in rows])
    above = energies_above_hull(references.known, compositions, energies)
    table = candidates_of([(*row, height) for row, height in zip(rows, above, strict=True)])
    return references.with_rivals(Rivals.among([table]))


@st.composite
def contests(draw):
    """Known compounds and candidates of up to three elements, with energies, and the candidates' errors."""
    n_elements = draw(st.integers(2, 3))
    amounts = st.lists(st.integers(0, 3), min_size=n_elements, max_size=n_elements).filter(
        lambda n: sum(map(bool, n)) > 1
    )
    known = draw(st.lists(st.tuples(amounts, st.floats(-2, 0.2)), max_size=6))
    found = draw(st.lists(st.tuples(amounts, st.floats(-3, 0.2), st.floats(0, 0.3)), min_size=1, max_size=8))
    return ELEMENTS[:n_elements], known, found


def spelled(elements, amounts):
    return [e for e, n in zip(elements, amounts, strict=True) for _ in range(n)]


@settings(max_examples=80, deadline=None)
@given(contests())
def test_each_candidate_competes_with_known_phases_and_with_the_lowest_candidate_of_every_other_formula(contest):
    elements, known, found = contest
    known = [(f"mp-{i}", spelled(elements, amounts), energy, 0.0) for i, (amounts, energy) in enumerate(known)]
    found = [(f"c-{i}", spelled(elements, amounts), *rest) for i, (amounts, *rest) in enumerate(found)]
    references = among(References.from_rows(known), found)
    decomposed = references.decompose_all([Counter(row[1]) for row in found], [row[0] for row in found])
    formulas = [Composition("".join(row[1])).reduced_formula for row in found]
    lowest = {
        f: min((row for row, g in zip(found, formulas, strict=True) if f == g), key=lambda r: (r[2], r[0]))
        for f in formulas
    }
    for (name, species, energy, _), formula, result in zip(found, formulas, decomposed, strict=True):
        entries = [PDEntry(Composition(e), 0.0) for e in elements]
        entries += [PDEntry(Composition("".join(row[1])), row[2] * len(row[1])) for row in known]
        entries += [  # of another formula whichever is lowest with its caution, the surer one of two
            PDEntry(Composition("".join(row[1])), (row[2] + phases.CAUTION * row[3]) * len(row[1]))
            for row, other in zip(found, formulas, strict=True)
            if other != formula
        ]
        diagram = PhaseDiagram(entries, elements=[Element(e) for e in elements])
        others = diagram.get_hull_energy_per_atom(Composition("".join(species)))
        assert result.energy_of_others == pytest.approx(others, abs=1e-9)
        is_lowest = lowest[formula][0] == name
        assert result.energy == pytest.approx(others if is_lowest else min(others, lowest[formula][2]), abs=1e-9)
        assert is_lowest or energy >= result.energy  # the others of its formula never lie below the hull


def test_of_one_formula_the_surer_candidate_competes_and_the_lowest_stands_for_it():
    li2mn = ["Li", "Li", "Mn"]
    rows = [("c-0", ["Li", "Mn"], 0.0, 0.0), ("c-1", li2mn, -1.0, 0.25), ("c-2", li2mn, -0.9, 0.0)]
    references = among(References.from_rows([]), rows)
    assert references.decompose(Counter(["Li", "Mn"]), "c-0").energy == pytest.approx(0.75 * -0.9)
    assert references.decompose(Counter(li2mn), "c-1").energy == pytest.approx(0)  # of other formulas: the elements
    assert references.decompose(Counter(li2mn), "c-2").energy == pytest.approx(-1.0)


@settings(max_examples=40, deadline=None)
@given(contests(), st.data())
def test_one_rival_more_never_lowers_an_energy_above_the_hull(contest, data):
    elements, known, found = contest
    known = [(f"mp-{i}", spelled(elements, amounts), energy, 0.0) for i, (amounts, energy) in enumerate(known)]
    found = [(f"c-{i}", spelled(elements, amounts), *rest) for i, (amounts, *rest) in enumerate(found)]
    left_out = data.draw(st.integers(0, len(found) - 1))
    rest = [row for place, row in enumerate(found) if place != left_out]
    compositions, names = [Counter(row[1]) for row in rest], [row[0] for row in rest]
    with_all = among(References.from_rows(known), found).decompose_all(compositions, names)
    without = among(References.from_rows(known), rest).decompose_all(compositions, names)
    alone = References.from_rows(known).decompose_all(compositions)
    for more, fewer, none in zip(with_all, without, alone, strict=True):
        assert more.energy <= fewer.energy + 1e-9 <= none.energy + 2e-9


def test_a_rival_enters_above_its_energy_and_is_named_as_predicted():
    references = among(References.from_rows([("mp-1", atoms("LiO"), -1.6, 0.0)]), [("c-1", atoms("Li2O"), -2.0, 0.3)])
    found = references.decompose({"Li": 7, "O": 5}, "c-2")  # half of the atoms in each
    assert found.text == "0.50 Li2O (c-1, predicted) + 0.50 Li2O2 (mp-1)"
    assert found.energy == pytest.approx(0.5 * -1.6 + 0.5 * (-2.0 + phases.CAUTION * 0.3))
    assert found.std == pytest.approx(0.5 * 0.3)
    assert references.decompose({"Li": 2, "O": 1}, "c-1").energy == pytest.approx(2 / 3 * -1.6)  # not with itself


def test_what_cannot_lower_the_hull_is_no_rival():
    known = References.from_rows([("mp-1", atoms("LiO"), -1.0, 0.0)])
    rows = [("c-1", atoms("Li2O"), -0.3, 0.0), ("c-2", atoms("Li2O2"), -1.1, 0.0), ("c-3", atoms("LiO"), -1.2, 0.0)]
    rivals = among(known, rows).rivals
    assert [phase.material_id for phase in rivals.of({"Li", "O"})] == ["c-3"]
    parts = [candidates_of([(*row, -1.0)]) for row in rows]
    assert Rivals.among(parts).table.equals(Rivals.among(parts[::-1]).table)  # whatever the shards


def test_candidates_that_are_elements_are_no_rivals_of_compounds():
    rows = [("c-1", atoms("Li"), -0.5, 0.0), ("c-2", atoms("Li"), -0.4, 0.0)]
    references = among(References.from_rows([("mp-1", atoms("LiO"), -1.0, 0.0)]), rows)
    assert references.decompose({"Li": 3, "O": 1}, "c-3").energy == pytest.approx(-0.5)
    assert references.decompose({"Li": 1}, "c-1").energy == 0  # zero by definition
    assert references.decompose({"Li": 1}, "c-2").energy == -0.5


def test_stability_is_judged_only_where_every_pair_of_elements_has_a_phase():
    rows = [("mp-1", atoms("ZnS"), -1.0, 0.0), ("mp-2", atoms("CuS"), -0.5, 0.0), ("mp-3", atoms("CuZn"), -0.1, 0.0)]
    references = References.from_rows(rows)
    found = references.decompose({"Zn": 1, "Cu": 1, "S": 2})
    assert remark_on(found, found.energy - 0.1, DEEPEST) == (True, "")
    judged, words = remark_on(found, found.energy - 0.64, 0.15)
    assert not judged
    assert "(0.64 > 0.15 eV/atom): rivals are missing" in words
    lone = references.decompose({"Ho": 2, "Zn": 1, "S": 4})
    assert lone.missing == ("Ho", "S", "Zn", "Ho-S", "Ho-Zn")
    assert remark_on(lone, lone.energy + 1.0, DEEPEST) == (False, "no Ho-S, Ho-Zn phase known")


def test_stand_ins_compete_and_are_never_known():
    known = [("mp-1", atoms("ZnS"), -1.0, 0.0), ("mp-2", atoms("Zn"), 0.0, 0.0)]
    references = References.from_rows(known, [("hyp-1", atoms("ZnSe"), -0.8, 0.0), ("hyp-2", atoms("SSe"), 0.3, 0.0)])
    assert (references.n_phases, references.n_stand_ins) == (1, 2)
    found = references.decompose({"Zn": 2, "S": 1, "Se": 1}, "c-1")
    assert found.text == "0.50 ZnS (mp-1) + 0.50 ZnSe (hyp-1, potential)"
    assert found.missing == ("S", "Se", "S-Se", "Se-Zn")
    assert remark_on(found, found.energy, DEEPEST) == (True, "potential-labelled stand-ins for S-Se, Se-Zn")
    assert references.known.decompose({"Zn": 2, "S": 1, "Se": 1}).energy == pytest.approx(-0.5)
    own = references.decompose({"Zn": 1, "Se": 1}, "c-1")  # the stand-in may be the same crystal
    assert own.energy == 0
    assert own.n_others == 0


def test_stand_ins_are_read_from_a_table_of_a_potential_alone(materials, tmp_path):
    rows = [
        {"material_id": "hyp-1", "species": ["Li", "F"], "formation_energy_aligned": -9.0, "calculation": "potential"}
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "stand_ins.parquet")
    references = References.read(materials, tmp_path / "stand_ins.parquet")
    assert (references.n_stand_ins, references.n_phases) == (1, References.read(materials).n_phases)
    pd.DataFrame(rows).assign(calculation="DFT").to_parquet(tmp_path / "dft.parquet")
    with pytest.raises(InputError, match=r"rows with calculation \['DFT'\]"):
        References.read(materials, tmp_path / "dft.parquet")


def test_the_limit_is_how_deep_known_phases_lie_below_the_hull_of_all_other_formulas(materials, sample_records):
    references = References.read(materials)
    n_others, depths = references.known_depths()
    found = []
    for system, compounds in references.phases.items():
        pairs = [frozenset(pair) for pair in combinations(sorted(system), 2)]
        for phase in compounds if len(system) > 1 else ():
            if not all(any(other is not phase for other in references.phases.get(pair, ())) for pair in pairs):
                continue
            rivals = [p for s, of_s in references.phases.items() if s <= system and len(s) > 1 for p in of_s]
            entries = [
                PDEntry(Composition(dict(p.counts)), p.energy * sum(p.counts.values()))
                for p in rivals
                if p is not phase
            ]
            entries += [
                PDEntry(Composition(e), min([0.0, *(p.energy for p in references.phases.get(frozenset([e]), ()))]))
                for e in system
            ]
            hull = PhaseDiagram(entries).get_hull_energy_per_atom(Composition(dict(phase.counts)))
            if hull > phase.energy:
                found.append((len(rivals) - 1, hull - phase.energy))
    assert len(found) > 20
    np.testing.assert_allclose(sorted(zip(n_others, depths, strict=True)), sorted(found), atol=1e-9)
    assert all(0 < references.depth_limit(n) <= DEEPEST for n in range(100))


def test_the_limit_is_a_quantile_where_enough_phases_tell_it():
    """Closed form: twenty systems of five binaries on parabolas c x (x - 1), so that chords lie c (x - a) (b - x) above."""
    ratios, rows, depths = ((3, 1), (2, 1), (1, 1), (1, 2), (1, 3)), [], []
    shares = [m / (n + m) for n, m in ratios]
    for place, c in enumerate(np.linspace(0.1, 1.0, 20)):
        symbol = str(Element.from_Z(11 + place))
        rows += [
            (f"{symbol}-{x}", [symbol] * n + ["F"] * m, c * x * (x - 1), 0.0)
            for (n, m), x in zip(ratios, shares, strict=True)
        ]
        depths += [c * (x - a) * (b - x) for a, x, b in zip([0, *shares[:-1]], shares, [*shares[1:], 1], strict=True)]
    references = References.from_rows(rows)
    np.testing.assert_allclose(sorted(references.known_depths()[1]), sorted(depths), atol=1e-9)
    assert references.depth_limit(4) == pytest.approx(np.quantile(depths, 0.99))
    assert references.depth_limit(4) < DEEPEST
    assert references.depth_limit(40) == DEEPEST  # nobody has so many rivals


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
    table = pd.read_parquet(materials).assign(formation_energy_noise=0.03, formation_energy_aligned_std=0.04)
    table.loc[table.index[::2], "formation_energy_noise"] = np.nan  # unknown: nothing can be said
    table.to_parquet(tmp_path / "noisy.parquet")
    phases = [phase for found in References.read(tmp_path / "noisy.parquet").phases.values() for phase in found]
    assert {round(phase.std, 12) for phase in phases if len(phase.counts) > 1} == {0.05, 0.04}
    assert {phase.std for phase in phases if len(phase.counts) == 1} <= {0.0}  # zero by definition


def test_in_draws_a_rival_errs_as_its_prediction_does():
    """Closed form: a mixture of one rival and one exact phase."""
    rows = [("c-1", atoms("Li2O"), -1.8, 0.05), ("c-9", atoms("LiO4"), -0.41, 0.5)]
    references = among(References.from_rows([("mp-1", atoms("LiO"), -1.6, 0.0)]), rows)
    aim = {"Li": 7, "O": 5}
    drawn = references.draw_hulls(
        [aim, {"Li": 2, "O": 1}, {"Li": 2, "O": 1}], 4000, np.random.default_rng(1), ["c-2", "c-1", "c-3"]
    )
    found = references.decompose(aim, "c-2")
    assert drawn[:, 0].mean() == pytest.approx(found.energy, abs=0.01)
    assert drawn[:, 0].std() == pytest.approx(found.std, rel=0.05)
    np.testing.assert_allclose(drawn[:, 1], 2 / 3 * -1.6)  # a candidate is no rival of itself
    assert drawn[:, 2].mean() == pytest.approx(-1.8, abs=0.01)  # the lowest of its formula


def test_phases_of_a_user_s_tables_widen_the_hull(tmp_path):
    """SrO + TiO2 alone leave SrTiO3 on the hull; a lower ternary in the user's table puts it above."""
    rows = [("mp-1", ["Sr", "O"], -3.0), ("mp-2", ["Ti", "O", "O"], -3.3), ("mp-3", ["Sr", "Ti"], -0.1)]
    table = pd.DataFrame(rows, columns=["material_id", "species", "formation_energy_aligned"]).assign(synthetic=False)
    table.to_parquet(tmp_path / "materials.parquet")
    own = tmp_path / "own_hull"
    own.mkdir()
    (own / "README.md").write_text("no table")
    counts = {"Sr": 1, "Ti": 1, "O": 3}
    before = References.read(tmp_path / "materials.parquet", None, own).decompose(counts)
    assert {phase.material_id for phase, _ in before.phases} == {"mp-1", "mp-2"}
    (own / "more.csv").write_text(
        "id,formula,formation_energy_per_atom\nmp-5229,SrTiO3,-3.55\nmp-9,Sr,0.2\nmp-8,Ti0.5O0.5,-2.0\n"
    )
    after = References.read(tmp_path / "materials.parquet", None, own)
    found = after.decompose(counts)
    assert [phase.label for phase, _ in found.phases] == ["SrTiO3 (mp-5229)"]
    assert found.energy == pytest.approx(-3.55)
    assert after.n_phases == 5
    assert after.system(("O", "Ti")).phases[2].counts == {"O": 1, "Ti": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,formula,energy\nmp-1,SrO,-3\n", r"lacks the columns \['formation_energy_per_atom'\]"),
        ("id,formula,formation_energy_per_atom\nmp-1,SrO,-39\n", "row 1: SrO has -39: a formation energy lies between"),
        ("id,formula,formation_energy_per_atom\nmp-1,what?,-3\n", r"row 1: 'what\?', -3 is not a formula"),
    ],
)
def test_a_row_that_is_no_phase_is_refused_with_its_place(tmp_path, text, words):
    table = pd.DataFrame({"material_id": ["mp-1"], "species": [["Sr", "O"]], "formation_energy_aligned": [-3.0]})
    table.assign(synthetic=False).to_parquet(tmp_path / "materials.parquet")
    (tmp_path / "hull.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        References.read(tmp_path / "materials.parquet", None, tmp_path / "hull.csv")
    with pytest.raises(InputError, match="is not there"):
        References.read(tmp_path / "materials.parquet", None, tmp_path / "absent")
