"""The store: the same graphs as built one by one, the same bytes from any workers, rejected when damaged.

One graph: what it must not depend on, and what it rejects.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from awkward_cells import random_cell
from pymatgen.core import Lattice, Structure
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation
from searches import nearest_neighbors

from matscout.crystal import Crystal
from matscout.errors import InputError, StoreError
from matscout.files import sha256_of, write_parquet
from matscout.graphs import featurize
from matscout.graphs.featurize import FILES
from matscout.graphs.graph_store import GraphStore, build_store, create_crystal_graph
from matscout.params import Graphs

FIELDS = ("atomic_numbers", "multiplicity", "crystal_of_atom", "centers", "neighbors", "edge_vectors")


@pytest.fixture(scope="module")
def crystals(sample):
    return sample[::20]


@pytest.fixture(scope="module")
def table(crystals, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "materials.parquet"
    write_parquet(path, pd.DataFrame([{"material_id": name, **crystal.to_row()} for name, crystal in crystals]))
    return path


@pytest.fixture(scope="module")
def directory(table, settings, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "graphs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(path.parent))
        build_store(table, path, settings, workers=1)
    return path


@pytest.fixture
def store(directory):
    return GraphStore.open(directory, verify=True)


def assert_equal(one, other):
    assert one.n_crystals == other.n_crystals
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


def test_ids_are_the_rows_of_the_table(store, crystals):
    assert store.ids.tolist() == [name for name, _ in crystals]
    assert len(store) == len(crystals)
    assert store.rows_of([crystals[7][0], crystals[2][0], crystals[7][0]]).tolist() == [7, 2, 7]


@pytest.mark.parametrize(("n_neighbors", "cutoff"), [(12, 8.0), (8, 3.5), (1, 2.0)])
def test_graphs_on_a_device_give_the_batches_of_the_store(store, n_neighbors, cutoff):
    resident, asked = store.on("cpu"), {"n_neighbors": n_neighbors, "cutoff": cutoff}
    assert len(resident) == len(store)
    assert resident.edge_counts(**asked).tolist() == store.edge_counts(**asked).tolist()
    rng = np.random.default_rng(5)
    for rows in (np.arange(len(store)), rng.integers(0, len(store), 40), np.array([3]), np.array([], np.int64)):
        assert_equal(resident.batch(rows, **asked), store.batch(rows, **asked))


def test_every_graph_is_the_one_built_alone(store, crystals):
    for row, (_, crystal) in enumerate(crystals):
        alone = create_crystal_graph(crystal, n_neighbors=12, cutoff=8.0)
        assert_equal(store.batch([row], n_neighbors=12, cutoff=8.0), alone)


@pytest.mark.parametrize("n_neighbors", [1, 6, 12, 24])
def test_a_stored_graph_holds_every_smaller_one(store, crystals, n_neighbors):
    """The nearest n of 24 stored neighbours are those of a store of n: a member sees what it was trained on."""
    names, cells = zip(*crystals, strict=True)
    small = GraphStore.from_crystals(names, cells, Graphs(n_neighbors=n_neighbors, asymmetric_unit=True, symprec=1e-3))
    rows = np.arange(len(store))
    assert_equal(
        store.batch(rows, n_neighbors=n_neighbors, cutoff=5.0), small.batch(rows, n_neighbors=n_neighbors, cutoff=5.0)
    )


def test_a_batch_is_its_crystals_side_by_side(store):
    rows = [11, 3, 3, 40]
    batch = store.batch(rows, n_neighbors=8, cutoff=6.0)
    singles = [store.batch([row], n_neighbors=8, cutoff=6.0) for row in rows]
    shifts = np.cumsum([0, *(single.n_atoms for single in singles)])
    assert batch.n_crystals == 4
    assert torch.equal(batch.atomic_numbers, torch.cat([s.atomic_numbers for s in singles]))
    assert torch.equal(batch.edge_vectors, torch.cat([s.edge_vectors for s in singles]))
    for name in ("centers", "neighbors"):
        shifted = [getattr(s, name) + shift for s, shift in zip(singles, shifts, strict=False)]
        assert torch.equal(getattr(batch, name), torch.cat(shifted))
    assert batch.crystal_of_atom.tolist() == np.repeat(np.arange(4), [s.n_atoms for s in singles]).tolist()
    assert (batch.centers.diff() >= 0).all()


def test_edge_counts_are_those_of_batches(store):
    counts = store.edge_counts(n_neighbors=12, cutoff=4.0)
    assert counts.tolist() == [store.batch([row], n_neighbors=12, cutoff=4.0).n_edges for row in range(len(store))]


def test_an_empty_selection_is_an_empty_graph(store):
    batch = store.batch([], n_neighbors=12, cutoff=8.0)
    assert (batch.n_crystals, batch.n_atoms, batch.n_edges) == (0, 0, 0)


def test_an_empty_store_opens_nothing(settings):
    assert len(GraphStore.from_crystals([], [], settings)) == 0


def test_arrays_are_memory_mapped_and_read_only(store):
    vectors = store._packed.edge_vectors
    base = vectors
    while not isinstance(base, np.memmap):
        base = base.base
        assert base is not None, "the array lies in memory"
    with pytest.raises(ValueError, match="read-only"):
        vectors[0] = 0


def test_a_batch_owns_its_memory(store):
    batch = store.batch([0], n_neighbors=12, cutoff=8.0)
    batch.edge_vectors.zero_()
    assert store.batch([0], n_neighbors=12, cutoff=8.0).edge_vectors.abs().sum() > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_do_not_depend_on_workers_or_shards(table, directory, settings, tmp_path, monkeypatch, workers):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(featurize, "_SHARD", 17)
    monkeypatch.setattr(featurize, "_SHARDS_PER_WORKER", 1)
    build_store(table, tmp_path / "graphs", settings, workers=workers)
    assert sha256_of(tmp_path / "graphs") == sha256_of(directory)
    assert [path.name for path in (tmp_path / ".checkpoints" / "featurize").iterdir()] == ["lock"]


def test_a_killed_run_goes_on_and_gives_the_same_bytes(table, directory, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(featurize, "_SHARD", 17)
    write, written = featurize._write_shard, []

    def die_at_the_third(task):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(task[3])
        write(task)

    monkeypatch.setattr(featurize, "_write_shard", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        build_store(table, tmp_path / "graphs", settings, workers=1)
    assert not (tmp_path / "graphs").exists()
    again = []
    monkeypatch.setattr(featurize, "_write_shard", lambda task: (again.append(task[3]), write(task)))
    build_store(table, tmp_path / "graphs", settings, workers=1)
    assert not set(again) & set(written)
    assert sha256_of(tmp_path / "graphs") == sha256_of(directory)


def test_other_settings_start_clean(table, settings, tmp_path, monkeypatch):
    """Shards of a run that was killed before the store was written are not used with another number of neighbours."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write, written = featurize._write_shard, []
    monkeypatch.setattr(featurize, "_write_shard", lambda task: (written.append(task[3]), write(task)))
    with monkeypatch.context() as patch:
        patch.setattr(featurize, "_merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        for changed in ({}, {}, {"n_neighbors": 12}, {}):
            written.append("run")
            with pytest.raises(KeyboardInterrupt):
                build_store(table, tmp_path / "graphs", settings.model_copy(update=changed), workers=1)
    assert written == ["run", "00000000", "run", "run", "00000000", "run", "00000000"]


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_rejected(directory, tmp_path, name):
    damaged = shutil.copytree(directory, tmp_path / "damaged")
    content = (damaged / name).read_bytes()
    (damaged / name).write_bytes(content[:-1])
    with pytest.raises(StoreError, match=rf"{name} has {len(content) - 1} bytes.*featurize"):
        GraphStore.open(damaged)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_by_its_checksum(directory, tmp_path, name):
    damaged = shutil.copytree(directory, tmp_path / "damaged")
    content = bytearray((damaged / name).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"{name} does not match its SHA-256"):
        GraphStore.open(damaged, verify=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "store.json").unlink(), "store.json is missing"),
        (lambda d: (d / "store.json").write_text('{"format_'), "cannot be read"),
        (lambda d: (d / "neighbors.npy").unlink(), "neighbors.npy is missing"),
        (lambda d: rewrite(d, format_version=99), "format version is 99"),
        (lambda d: rewrite(d, counts={"crystals": 1, "atoms": 1, "edges": 1}), "atom_offsets holds .* counts 2"),
        (lambda d: rewrite(d, tie_tolerance=0.5), "tie tolerance is 0.5"),
        (lambda d: np.save(d / "edge_offsets.npy", np.load(d / "edge_offsets.npy")[::-1]), "do not ascend"),
        (lambda d: rewrite(d, files={}), "does not list"),
        (lambda d: rewrite(d, settings={"n_neighbours": 24}), "settings"),
    ],
)
def test_a_damaged_store_says_why(directory, tmp_path, damage, message):
    damaged = shutil.copytree(directory, tmp_path / "damaged")
    damage(damaged)
    with pytest.raises(StoreError, match=message):
        GraphStore.open(damaged)


def rewrite(directory, **changes):
    sidecar = json.loads((directory / "store.json").read_text())
    (directory / "store.json").write_text(json.dumps(sidecar | changes))


def test_wishes_that_cannot_be_met(store):
    with pytest.raises(StoreError, match="25 neighbours asked for, the store holds 24"):
        store.batch([0], n_neighbors=25, cutoff=8.0)
    with pytest.raises(StoreError, match="rows 0 to"):
        store.batch([len(store)], n_neighbors=12, cutoff=8.0)
    with pytest.raises(StoreError, match=r"1 id\(s\).*mp-none"):
        store.rows_of(["mp-none"])


def test_a_broken_cell_is_named(crystals, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    flat = Crystal(np.diag([4.0, 4.0, 0.0]), ("Na",), np.zeros((1, 3)))
    with pytest.raises(InputError, match="flat-cell: the cell has 0 Å³"):
        GraphStore.from_crystals(["fine", "flat-cell"], [crystals[0][1], flat], settings)
    path = tmp_path / "materials.parquet"
    write_parquet(path, pd.DataFrame([{"material_id": "flat-cell", **flat.to_row()}]))
    with pytest.raises(InputError, match="flat-cell: the cell has 0 Å³"):
        build_store(path, tmp_path / "graphs", settings, workers=1)
    assert not (tmp_path / "graphs").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no rows"),
        ([{"material_id": "a"}, {"material_id": "a"}], "a occurs 2 times"),
        ([{"species": ["Xx"]}], "one holds 'Xx'"),
        ([{"frac_coords": [0.0, 0.0]}], "2 numbers in frac_coords, 3 are needed"),
        ([{"lattice": [1.0] * 8}], "8 numbers in lattice, 9 are needed"),
    ],
)
def test_a_broken_table_is_rejected(rows, message, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    fine = {"material_id": "one", **Crystal(np.eye(3) * 4.0, ("Na",), np.zeros((1, 3))).to_row()}
    frame = pd.DataFrame([fine | row for row in rows] or [fine])
    write_parquet(tmp_path / "materials.parquet", frame if rows else frame[:0])
    with pytest.raises(InputError, match=message):
        build_store(tmp_path / "materials.parquet", tmp_path / "graphs", settings, workers=1)


def test_crystals_without_a_graph_are_named_and_the_others_go_on(crystals, settings):
    flat = Crystal(np.ones((3, 3)), ("Na",), np.zeros((1, 3)))
    broken = {
        "cell_not_finite": Crystal(np.full((3, 3), np.nan), ("Na",), np.zeros((1, 3))),
        "cell_too_large": Crystal(np.eye(3) * 1e300, ("Na",), np.zeros((1, 3))),
        "atoms_overlap": Crystal(np.eye(3) * 4.0, ("Na", "Cl"), np.zeros((2, 3))),
        "zero_volume": flat,
        "no_atoms": Crystal(np.eye(3) * 4.0, (), np.zeros((0, 3))),
        "unknown_element": Crystal(np.eye(3) * 4.0, ("Xx",), np.zeros((1, 3))),
        "shapes_disagree": Crystal(np.eye(3) * 4.0, ("Na", "Cl"), np.zeros((1, 3))),
    }
    fine = dict(crystals[:7])
    mixed = [item for pair in zip(broken.items(), fine.items(), strict=True) for item in pair]
    store, faults = GraphStore.from_usable([name for name, _ in mixed], [cell for _, cell in mixed], settings)
    alone = GraphStore.from_crystals(list(fine), list(fine.values()), settings)
    assert store.ids.tolist() == list(fine)
    assert [(fault.row, fault.reason) for fault in faults] == [(2 * i, name) for i, name in enumerate(broken)]
    rows = np.arange(len(fine))
    assert_equal(*(some.batch(rows, n_neighbors=4, cutoff=8.0) for some in (store, alone)))


def flip_a_bit(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize("damage", [lambda content: content[:-200], flip_a_bit])
def test_a_damaged_shard_is_made_again(damage, table, settings, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def build(name):
        build_store(table, tmp_path / name, settings, workers=1)
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    whole = build("whole")
    with monkeypatch.context() as patch:
        patch.setattr(featurize, "_merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build("killed")
    (shard,) = (tmp_path / ".checkpoints").rglob("*.npz")
    shard.write_bytes(damage(shard.read_bytes()))
    assert build("again") == whole
    assert "cut off or changed on disk" in caplog.text


def atoms_of(graph):
    """What every invariant model sees: (species, weight, species of edges' ends) -> sorted lengths of each atom."""
    numbers, weights = graph.atomic_numbers.tolist(), graph.multiplicity.tolist()
    lengths = np.linalg.norm(graph.edge_vectors.numpy().astype(float), axis=1)
    centers, ends = graph.centers.numpy(), graph.atomic_numbers.numpy()[graph.neighbors.numpy()]
    atoms = {}
    for atom in range(graph.n_atoms):
        mine = centers == atom
        kind = (numbers[atom], weights[atom], tuple(sorted(ends[mine].tolist())))
        atoms.setdefault(kind, []).append(np.sort(lengths[mine]))
    return atoms


def assert_same(one, other, tolerance=5e-3):
    """Atoms of a kind are paired so that their lengths agree best; merged atoms differ by a few symprec."""
    first, second = atoms_of(one), atoms_of(other)
    assert {kind: len(atoms) for kind, atoms in first.items()} == {kind: len(atoms) for kind, atoms in second.items()}
    for kind, atoms in first.items():
        difference = np.abs(np.array(atoms)[:, None] - np.array(second[kind])[None]).max(axis=-1)
        assert difference[linear_sum_assignment(difference)].max() < tolerance


@pytest.fixture(scope="module")
def some(sample):
    return [crystal for _, crystal in sample[::60] if crystal.n_atoms <= 30]


@pytest.mark.parametrize("asymmetric_unit", [True, False])
def test_rotation_translation_and_permutation(some, asymmetric_unit):
    rng = np.random.default_rng(2)
    for crystal in some:
        order = rng.permutation(crystal.n_atoms)
        turned = Crystal(
            crystal.lattice @ Rotation.random(rng=rng).as_matrix(),
            tuple(np.array(crystal.species)[order]),
            crystal.frac_coords[order] + rng.uniform(-2, 2, 3),
        )
        graphs = [create_crystal_graph(c, asymmetric_unit=asymmetric_unit) for c in (crystal, turned)]
        assert_same(*graphs)


def test_choice_of_cell(some):
    """Another basis of the same lattice, of any handedness."""
    rng = np.random.default_rng(3)
    for crystal in some:
        change = np.eye(3, dtype=int)
        for _ in range(3):
            one, other = rng.choice(3, 2, replace=False)
            change[one] += rng.integers(-2, 3) * change[other]
        change[0] *= rng.choice([-1, 1])
        other = Crystal(change @ crystal.lattice, crystal.species, crystal.frac_coords @ np.linalg.inv(change))
        assert_same(create_crystal_graph(crystal), create_crystal_graph(other))


@pytest.mark.parametrize("scaling", [[2, 1, 1], [1, 2, 2], [[1, 1, 0], [0, 1, 2], [1, 0, 1]]])
def test_a_supercell_has_the_graph_of_its_primitive_cell(some, scaling):
    for crystal in [c for c in some if c.n_atoms <= 14]:
        supercell = crystal.to_structure().make_supercell(scaling, in_place=False)
        assert_same(create_crystal_graph(crystal), create_crystal_graph(supercell))


def test_asymmetric_unit_holds_every_edge_of_the_full_cell(some):
    """Weighted by multiplicity, edges by species and length are those of all atoms."""
    for crystal in some:
        small, full = create_crystal_graph(crystal), create_crystal_graph(crystal, asymmetric_unit=False)
        assert small.n_atoms <= full.n_atoms
        weight = crystal.n_atoms / small.multiplicity.sum()
        totals = [
            np.bincount(g.atomic_numbers[g.centers] * 100 + g.atomic_numbers[g.neighbors], w[g.centers], 12_000)
            for g, w in ((small, small.multiplicity * weight), (full, full.multiplicity))
        ]
        assert np.allclose(*totals)
        means = [np.average(g.distances, weights=g.multiplicity[g.centers]) for g in (small, full)]
        assert np.isclose(*means, atol=1e-3)


def test_full_cell_is_the_search_itself():
    rng = np.random.default_rng(8)
    for _ in range(10):
        lattice, coords = random_cell(rng)
        try:
            found = nearest_neighbors(lattice, coords, 12)
        except InputError:
            continue
        graph = create_crystal_graph(Crystal(lattice, ("Fe",) * len(coords), coords), cutoff=1e3, asymmetric_unit=False)
        assert (graph.edge_vectors.numpy() == found.vectors).all()
        assert (graph.neighbors.numpy() == found.neighbors).all()
        assert (graph.centers.numpy() == np.repeat(found.centers, found.counts)).all()


def test_cutoff_drops_whole_shells_but_never_the_nearest():
    crystal = Crystal(np.eye(3) * 3.0, ("Po",), np.zeros((1, 3)))
    for cutoff, wanted in ((0.1, 6), (3.0, 6), (4.3, 18), (5.3, 26)):
        assert create_crystal_graph(crystal, n_neighbors=20, cutoff=cutoff).n_edges == wanted


def test_input_is_not_changed():
    structure = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [2.5, 0.5, -0.5]])
    before = structure.as_dict()
    create_crystal_graph(structure)
    assert structure.as_dict() == before


def test_types_and_shapes():
    graph = create_crystal_graph(Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert [str(t.dtype) for t in (graph.atomic_numbers, graph.multiplicity, graph.centers, graph.edge_vectors)] == [
        "torch.int64",
        "torch.float32",
        "torch.int64",
        "torch.float32",
    ]
    assert graph.n_crystals == 1
    assert graph.crystal_of_atom.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 0.001]]), "NaNa|Na: two atoms are 0.004"),
        (Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]), "partially occupied"),
        (Crystal(np.diag([4.0, 4.0, 1e-9]), ("Na",), np.zeros((1, 3))), "Å³ per atom"),
        (Crystal(np.eye(3) * 4.0, ("Na", "Na"), np.array([[0, 0, 0], [0, np.nan, 0]])), "NaN"),
    ],
)
def test_broken_structures_are_rejected(structure, message):
    with pytest.raises(InputError, match=message):
        create_crystal_graph(structure)
