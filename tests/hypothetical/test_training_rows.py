"""Hypothetical crystals: drawn from known ones, minimised over the volume, joined to the curated table's scale."""

import itertools
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import yaml
from imports import ROOT
from pydantic import ValidationError

from matscout import columns
from matscout.compositions import is_surely_metal
from matscout.crystal import SYMBOLS, Crystal, formula_key
from matscout.errors import InputError
from matscout.hypothetical.draw_crystals import DECORATION, EXCHANGE, LARGEST_CELL, NEVER, draw, fit_atomic_volumes
from matscout.hypothetical.potential_labels import (
    CORRECTION,
    ENERGY,
    EXCHANGED,
    MINIMUM,
    POINTS,
    ROUTE,
    SCALE,
    SECOND_ENERGY,
    Labels,
    drawn_from,
    exchanged_text,
)
from matscout.hypothetical.potential_scale import element_noise
from matscout.hypothetical.training_rows import make_hypothetical
from matscout.params import Curation, Hypothetical
from matscout.potentials.potential import Facts

SEARCHED = {MINIMUM: 1.0, POINTS: 3}
POTENTIAL = Facts("toy", "1", "0" * 64, "PBE", columns.MP2020, "MIT", "nobody")
MU = {symbol: -1.0 - 0.03 * z for z, symbol in enumerate(SYMBOLS)}  # eV/atom: what a total energy has on top


def rock_salt(a, b, length=5.0):
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * length
    return Crystal(fcc, (a, b), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


def perovskite(a, b, x, length=4.0):
    places = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Crystal(np.eye(3) * length, (a, b, x, x, x), places)


METALS = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Ti", "Zr", "Fe", "Co", "Ni", "Al", "Ga")
ANIONS = ("O", "S", "F", "Cl", "N", "Se")
PARENTS = {
    **{f"ab-{a}{x}": rock_salt(a, x) for a in METALS for x in ANIONS},
    **{f"abx-{a}{b}": perovskite(a, b, "O") for a, b in itertools.combinations(METALS[:8], 2)},
}
PROTOTYPES = {key: key.split("-")[0] for key in PARENTS}
BARRED = frozenset(formula_key(crystal.species) for crystal in PARENTS.values())


def drawn(n, seed=3):
    return list(itertools.islice(draw(PARENTS, PROTOTYPES, barred=BARRED, seed=seed), n))


def test_draws_are_seeded_distinct_and_never_known():
    first = drawn(300)
    assert first == drawn(300)
    assert first[:50] != drawn(50, seed=4)
    assert len({(item.parent_id, item.exchanged) for item in first}) == 300
    made = [item.crystal(PARENTS[item.parent_id]) for item in first]
    assert not BARRED & {formula_key(crystal.species) for crystal in made}
    assert not NEVER & {symbol for crystal in made for symbol in crystal.species}
    assert set(Counter(item.route for item in first)) == {EXCHANGE, DECORATION}


def test_a_draw_keeps_the_parent_s_sites_and_scales_its_volume():
    for item in drawn(100):
        parent = PARENTS[item.parent_id]
        child = item.crystal(parent)
        np.testing.assert_array_equal(child.frac_coords, parent.frac_coords)
        assert child.volume == pytest.approx(parent.volume * item.scale)
        same = [[a == b for b in child.species] for a in child.species]
        assert same == [[a == b for b in parent.species] for a in parent.species], "sites that differed still differ"


def test_draws_end_where_everything_is_barred():
    only = {"a": rock_salt("Na", "Cl")}
    assert not list(draw(only, {}, barred=frozenset({"Cl1 Na1"}), seed=1)), "two elements: only NaCl itself is left"


def test_large_parents_are_left_out():
    large = Crystal(
        np.eye(3) * 20, ("Na",) * LARGEST_CELL + ("Cl",), np.random.default_rng(0).random((LARGEST_CELL + 1, 3))
    )
    ids = {
        item.parent_id
        for item in itertools.islice(draw({**PARENTS, "large": large}, PROTOTYPES, barred=BARRED, seed=1), 200)
    }
    assert "large" not in ids


def test_atomic_volumes_are_recovered_from_cells_that_are_sums_of_them():
    truth = {"Na": 20.0, "Cl": 30.0, "K": 40.0}
    pairs = [("Na", "Cl"), ("K", "Cl"), ("Na", "K")]
    cells = []
    for a, b in pairs:
        unit = rock_salt(a, b)
        cells.append(
            Crystal(unit.lattice * np.cbrt((truth[a] + truth[b]) / unit.volume), unit.species, unit.frac_coords)
        )
    fitted = fit_atomic_volumes(cells)
    assert [fitted[SYMBOLS.index(symbol)] for symbol in truth] == pytest.approx(list(truth.values()))
    assert np.isnan(fitted[SYMBOLS.index("Fe")])


@pytest.mark.parametrize(
    ("counts", "is_metal"),
    [
        ({"Na": 1, "Cl": 1}, False),
        ({"Na": 4, "Cl": 4}, False),  # a cell counts as its formula
        ({"Fe": 3, "O": 4}, False),  # 2 Fe3+ and Fe2+
        ({"Ni": 1, "Al": 1}, True),
        ({"Cu": 2, "Mn": 1, "Al": 1}, True),
        ({"Na": 1, "Cl": 3}, True),  # no chlorine of charge -1/3
        ({"Si": 2}, False),  # elements are not judged
    ],
)
def test_metals_are_what_no_oxidation_states_balance(counts, is_metal):
    assert is_surely_metal(counts) is is_metal


def test_labels_come_back_as_they_were_written(tmp_path):
    items = drawn(20)
    table = pd.DataFrame(
        {
            ROUTE: [item.route for item in items],
            columns.PARENT_ID: [item.parent_id for item in items],
            EXCHANGED: [exchanged_text(item) for item in items],
            SCALE: [item.scale for item in items],
            ENERGY: -1.5,
            SECOND_ENERGY: np.nan,
            CORRECTION: 0.0,
            **SEARCHED,
        }
    )
    known = pd.DataFrame({columns.MATERIAL_ID: ["x"], ENERGY: [-1.0], SECOND_ENERGY: [-1.1], CORRECTION: [0.0]})
    Labels(POTENTIAL, PARENTS, table, known).write(tmp_path / "labels")
    back = Labels.read(tmp_path / "labels")
    assert back.potential == POTENTIAL
    for item, row in zip(items, back.table.itertuples(index=False), strict=True):
        again = drawn_from(row.route, row.parent_id, row.exchanged, row.scale)
        assert (again.route, again.parent_id, again.exchanged) == (item.route, item.parent_id, item.exchanged)
        assert again.scale == pytest.approx(item.scale, rel=1e-6)
        np.testing.assert_allclose(back.parents[row.parent_id].lattice, PARENTS[item.parent_id].lattice, rtol=1e-6)


def test_a_missing_folder_is_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"holds no labels by a potential.*hypothetical\.path"):
        Labels.read(tmp_path)


def total(crystal, formation):
    return formation + float(np.mean([MU[symbol] for symbol in crystal.species]))


def truth_of(crystal):
    """A made-up formation energy, eV/atom, without corrections."""
    return -0.5 * len(set(crystal.species)) + 0.01 * len(crystal.species)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Known crystals and labels of a potential that is DFT but for its elements' energies, and a second that errs."""
    folder = tmp_path_factory.mktemp("world")
    ids = list(PARENTS)
    folds = [columns.TRAIN if i % 5 else columns.TEST for i in range(len(ids))]
    curated = pd.DataFrame(
        [
            {
                columns.MATERIAL_ID: key,
                columns.SOURCE: "toy",
                columns.FUNCTIONAL: "PBE",
                columns.SYNTHETIC: False,
                columns.DUPLICATE_GROUP: key,
                columns.FORMATION_ENERGY_ALIGNED: truth_of(PARENTS[key]),
                columns.FORMATION_ENERGY_NOISE: np.nan,
                columns.BAND_GAP_NOISE: np.nan,
                **dict.fromkeys(columns.LABELS, 1.0),
                **PARENTS[key].to_row(),
            }
            for key in ids
        ]
    )
    curated.to_parquet(folder / "materials.parquet")
    pd.DataFrame({columns.MATERIAL_ID: ids, columns.FOLD: folds}).to_parquet(folder / "split.parquet")
    items = [item for item in drawn(400) if set(dict(item.exchanged).values()) <= {*METALS, *ANIONS}]
    made = [item.crystal(PARENTS[item.parent_id]) for item in items]
    rng = np.random.default_rng(0)
    energies = np.array([total(crystal, truth_of(crystal)) for crystal in made])
    table = pd.DataFrame(
        {
            ROUTE: [item.route for item in items],
            columns.PARENT_ID: [item.parent_id for item in items],
            EXCHANGED: [exchanged_text(item) for item in items],
            SCALE: [item.scale for item in items],
            ENERGY: energies,
            SECOND_ENERGY: energies + rng.normal(scale=0.05, size=len(items)),
            CORRECTION: 0.1,
            **SEARCHED,
        }
    )
    known = pd.DataFrame(
        {
            columns.MATERIAL_ID: ids,
            ENERGY: [total(PARENTS[key], truth_of(PARENTS[key])) for key in ids],
            SECOND_ENERGY: [total(PARENTS[key], truth_of(PARENTS[key])) for key in ids],
            CORRECTION: 0.0,
        }
    )
    Labels(POTENTIAL, PARENTS, table, known).write(folder / "labels")
    return folder, items, made


def run(world, out, own_folder=None, **changed):
    folder, _, _ = world
    none = {"n": 0, "elements": None, "potential": "sevennet-0", "seed": 1}
    given = {"path": str(folder / "labels"), "n": 1000, "per_epoch": 10, "calibration": 0.3, "own": none}
    settings = Hypothetical(**(given | changed))
    curation = Curation.model_validate(yaml.safe_load((ROOT / "params.yaml").read_text())["curation"])
    make_hypothetical(
        folder / "materials.parquet",
        folder / "split.parquet",
        own_folder,
        settings,
        curation,
        destination=out / "hypothetical",
        training=out / "training",
    )
    return pd.read_parquet(out / "hypothetical" / "crystals.parquet")


def test_energies_join_the_curated_scale_with_their_correction(world, tmp_path):
    _, items, made = world
    table = run(world, tmp_path)
    assert len(table) == len(items)
    for row in table.to_dict("records"):
        crystal = Crystal.from_row(row)
        assert row[columns.FORMATION_ENERGY_ALIGNED] == pytest.approx(truth_of(crystal) + 0.1, abs=0.01)
        assert row[columns.CALCULATION] == columns.BY_POTENTIAL
        assert row[columns.BAND_GAP] == 0.0 or np.isnan(row[columns.BAND_GAP])
    assert {formula_key(crystal.species) for crystal in made} == set(table[columns.SPECIES].map(formula_key))


def test_one_formula_stands_on_one_side(world, tmp_path):
    table = run(world, tmp_path)
    sides = table.groupby(table[columns.SPECIES].map(formula_key))[columns.FOLD].nunique()
    assert (sides == 1).all()
    assert set(table[columns.FOLD]) == {columns.TRAIN, columns.CALIBRATION}


def test_the_noise_is_that_of_two_potentials_disagreement(world, tmp_path):
    table = run(world, tmp_path)
    assert table[columns.FORMATION_ENERGY_NOISE].median() == pytest.approx(1.4 * 0.05, rel=0.25)


def test_the_training_set_keeps_every_curated_row_and_judges_by_none_of_the_others(world, tmp_path):
    table = run(world, tmp_path)
    training = pd.read_parquet(tmp_path / "training" / "materials.parquet").set_index(columns.MATERIAL_ID)
    split = pd.read_parquet(tmp_path / "training" / "split.parquet").set_index(columns.MATERIAL_ID)[columns.FOLD]
    by_dft = training.index[training[columns.CALCULATION] == columns.BY_DFT]
    assert by_dft.tolist() == list(PARENTS)
    assert (training.loc[by_dft, columns.BAND_GAP] == 1.0).all()
    by_potential = training.index[training[columns.CALCULATION] == columns.BY_POTENTIAL]
    assert by_potential.tolist() == table[columns.MATERIAL_ID].tolist()
    assert set(split[by_potential]) == {columns.TRAIN, columns.CALIBRATION}


def test_labels_of_a_lab_s_own_file_stay_with_the_curated_rows(world, tmp_path):
    folder = tmp_path / "with a label of its own"
    shutil.copytree(world[0], folder)
    curated = pd.read_parquet(folder / "materials.parquet")
    curated["hardness"] = np.arange(len(curated), dtype=np.float64)
    curated.to_parquet(folder / "materials.parquet")
    run((folder, *world[1:]), tmp_path / "out")
    training = pd.read_parquet(tmp_path / "out" / "training" / "materials.parquet")
    assert training["hardness"][: len(curated)].tolist() == curated["hardness"].tolist()
    assert training["hardness"][len(curated) :].isna().all()


def test_copies_are_those_of_training_rows_with_their_labels_and_another_volume(world, tmp_path):
    table = run(world, tmp_path)
    assert not (table[columns.CALCULATION] == columns.COPIED).any(), "a copy competes with no candidate"
    training = pd.read_parquet(tmp_path / "training" / "materials.parquet").set_index(columns.MATERIAL_ID)
    split = pd.read_parquet(tmp_path / "training" / "split.parquet").set_index(columns.MATERIAL_ID)[columns.FOLD]
    copies = training.loc[training[columns.CALCULATION] == columns.COPIED]
    originals = copies.index.str.removeprefix("copy-")
    assert set(originals) == {key for key in PARENTS if split[key] == columns.TRAIN}
    assert set(split[copies.index]) == {columns.TRAIN}
    for name in (columns.FORMATION_ENERGY_ALIGNED, columns.BAND_GAP):
        np.testing.assert_array_equal(copies[name], training.loc[originals, name])
    for key, copy in zip(originals, copies.to_dict("records"), strict=True):
        parent, child = PARENTS[key], Crystal.from_row(copy)
        np.testing.assert_array_equal(child.frac_coords, parent.frac_coords)
        assert 0 < abs(np.log(child.volume / parent.volume)) < 0.5


def test_formulas_that_became_known_are_left_out_and_counted(world, tmp_path):
    folder, _, made = world
    curated = pd.read_parquet(folder / "materials.parquet")
    now_known = curated.iloc[:1].assign(
        **{
            columns.MATERIAL_ID: "new",
            columns.SPECIES: [list(made[0].species)],
            columns.FRAC_COORDS: [list(made[0].frac_coords.ravel())],
        }
    )
    changed = tmp_path / "changed"
    changed.mkdir()
    pd.concat([curated, now_known]).to_parquet(changed / "materials.parquet")
    split = pd.read_parquet(folder / "split.parquet")
    extra = pd.DataFrame({columns.MATERIAL_ID: ["new"], columns.FOLD: [columns.TEST]})
    pd.concat([split, extra]).to_parquet(changed / "split.parquet")
    (changed / "labels").symlink_to(folder / "labels")
    table = run((changed, None, None), tmp_path)
    assert formula_key(made[0].species) not in set(table[columns.SPECIES].map(formula_key))
    summary = yaml.safe_load((tmp_path / "hypothetical" / "summary.json").read_text())
    assert summary["rejected"]["formula_is_known"] == sum(
        formula_key(c.species) == formula_key(made[0].species) for c in made
    )


def test_none_are_made_where_none_are_asked_for(world, tmp_path):
    assert run(world, tmp_path, n=0).empty
    training = pd.read_parquet(tmp_path / "training" / "materials.parquet")
    assert training[columns.MATERIAL_ID].tolist() == list(PARENTS)


def test_too_few_known_crystals_are_rejected(world, tmp_path):
    folder, _, _ = world
    labels = Labels.read(folder / "labels")
    few = tmp_path / "few"
    few.mkdir()
    for name in ("materials.parquet", "split.parquet"):
        (few / name).symlink_to(folder / name)
    Labels(labels.potential, labels.parents, labels.table, labels.known.iloc[:3]).write(few / "labels")
    with pytest.raises(InputError, match=r"training crystals have an energy by toy.*min_pairs"):
        run((few, None, None), tmp_path)


def test_noise_of_a_composition_is_the_root_mean_square_over_its_atoms():
    rng = np.random.default_rng(1)
    known = np.zeros((4000, 118))
    known[:2000, 0], known[2000:, 1] = 1.0, 1.0
    residuals = np.concatenate([rng.normal(scale=0.1, size=2000), rng.normal(scale=0.3, size=2000)])
    asked = np.zeros((3, 118))
    asked[0, 0], asked[1, 1] = 1.0, 1.0
    asked[2, :2] = 0.5
    assert element_noise(residuals, known, asked) == pytest.approx([0.1, 0.3, np.sqrt((0.01 + 0.09) / 2)], rel=0.06)


def test_own_labels_join_the_others_once_and_on_the_same_scale(world, tmp_path):
    """Half of the labels as the user's own, without a second potential, give the same crystals and energies."""
    folder, _, _ = world
    labels = Labels.read(folder / "labels")
    half = len(labels.table) // 2
    mine = labels.table.iloc[half - 3 :].assign(**{SECOND_ENERGY: np.nan})  # three of them are there already
    Labels(POTENTIAL, PARENTS, mine, labels.known).write(tmp_path / "own")
    together = run(world, tmp_path / "both", own_folder=tmp_path / "own", n=half)
    alone = run(world, tmp_path / "one")
    same = [columns.MATERIAL_ID, columns.FORMATION_ENERGY_ALIGNED, columns.FOLD]
    pd.testing.assert_frame_equal(together[same], alone[same])
    assert together[columns.FORMATION_ENERGY_NOISE].gt(0).all()


def test_own_labels_need_others_that_tell_their_error(world, tmp_path):
    own = {"n": 5, "elements": None, "potential": "sevennet-0", "seed": 1}
    with pytest.raises(ValidationError, match="needs n above 0"):
        run(world, tmp_path, n=0, own=own)
