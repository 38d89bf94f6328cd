"""What a lab has as files: the same crystals and labels out of seven formats; broken rows told apart."""

import csv
import gzip
import json
import tracemalloc

import ase.io
import numpy as np
import pytest
from ase import Atoms
from pymatgen.io.cif import CifWriter
from sample_rows import database, sample_records, split

from matscout.errors import InputError, ParameterError
from matscout.params import FileImport
from matscout.sources.acquire import acquire
from matscout.sources.files.import_file import detect, import_file
from matscout.sources.record import RECORD_SCHEMA
from matscout.sources.snapshots.snapshot import read_snapshot

N_ROWS = 12
PLAIN = FileImport(format="auto", columns={}, units={}, functional="PBE")


def rows():
    chosen = [r for r in sample_records("materials_project") if r.band_gap is not None and r.crystal.n_atoms < 10]
    return chosen[100 : 100 + N_ROWS]


def plain(record):
    row = record.to_row()
    return {key: [float(x) for x in v] if key in {"lattice", "frac_coords"} else v for key, v in row.items()}


def cif_of(record):
    return str(CifWriter(record.crystal.to_structure()))


def write_records_jsonl(folder):
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(plain(r)) + "\n" for r in rows()))
    return path


def write_records_parquet(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([record.to_row() for record in rows()], schema=RECORD_SCHEMA)
    pq.write_table(table, folder / "records.parquet")
    return folder / "records.parquet"


def write_cgcnn(folder):
    home = folder / "cgcnn"
    home.mkdir()
    for record in rows():
        (home / f"{record.material_id}.cif").write_text(cif_of(record))
    lines = [f"{r.material_id},{r.band_gap},{r.formation_energy_per_atom}" for r in rows()]
    (home / "id_prop.csv").write_text("\n".join(lines) + "\n")
    return home


def write_csv(folder):
    with (folder / "mp20.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["", "material_id", "formation_energy_per_atom", "band_gap", "cif"])
        for n, r in enumerate(rows()):
            writer.writerow([n, r.material_id, r.formation_energy_per_atom, r.band_gap, cif_of(r)])
    return folder / "mp20.csv"


def write_matbench(folder):
    data = [[r.crystal.to_structure().as_dict(), r.band_gap, r.formation_energy_per_atom] for r in rows()]
    frame = {"index": [r.material_id for r in rows()], "columns": ["structure", "gap pbe", "e_form"], "data": data}
    path = folder / "matbench_mp_gap.json.gz"
    path.write_bytes(gzip.compress(json.dumps(frame).encode()))
    return path


def write_extxyz(folder):
    frames = []
    for r in rows():
        atoms = Atoms(r.crystal.species, scaled_positions=r.crystal.frac_coords, cell=r.crystal.lattice, pbc=True)
        labels = {"band_gap": r.band_gap, "formation_energy_per_atom": r.formation_energy_per_atom}
        atoms.info |= {"material_id": r.material_id, **labels}
        frames.append(atoms)
    ase.io.write(folder / "set.extxyz", frames, format="extxyz")
    return folder / "set.extxyz"


def write_optimade(folder):
    lines = [{"x-optimade": {"meta": {"api_version": "1.1.0"}}}, {"type": "info", "id": "structures"}]
    for r in rows():
        attributes = {
            "lattice_vectors": r.crystal.lattice.tolist(),
            "cartesian_site_positions": (r.crystal.frac_coords @ r.crystal.lattice).tolist(),
            "species_at_sites": list(r.crystal.species),
            "species": [{"name": s, "chemical_symbols": [s], "concentration": [1]} for s in set(r.crystal.species)],
            "_oqmd_band_gap": r.band_gap,
            "_oqmd_delta_e": r.formation_energy_per_atom,
        }
        lines.append({"type": "structures", "id": r.material_id, "attributes": attributes})
    path = folder / "optimade.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_pymatgen(folder):
    documents = [
        {
            "material_id": r.material_id,
            "structure": r.crystal.to_structure().as_dict(),
            "band_gap": r.band_gap,
            "formation_energy_per_atom": r.formation_energy_per_atom,
        }
        for r in rows()
    ]
    path = folder / "documents.json"
    path.write_text(json.dumps(documents))
    return path


WRITERS = {
    "records": write_records_jsonl,
    "records parquet": write_records_parquet,
    "cgcnn": write_cgcnn,
    "csv": write_csv,
    "matbench": write_matbench,
    "extxyz": write_extxyz,
    "optimade": write_optimade,
    "pymatgen": write_pymatgen,
}


def options_for(kind, **changes):
    columns = {"band_gap": "1", "formation_energy_per_atom": "2"} if kind == "cgcnn" else {}
    return PLAIN.model_copy(update={"columns": columns} | changes)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_is_detected_and_gives_the_same_materials(tmp_path, kind):
    path = WRITERS[kind](tmp_path)
    assert detect(path) == kind.split()[0]
    records, rejections = split(import_file(path, options_for(kind), "lab"))
    assert not rejections
    for found, expected in zip(records, rows(), strict=True):
        assert found.material_id == expected.material_id
        assert found.source == "lab"
        assert found.band_gap == pytest.approx(expected.band_gap, abs=1e-9)
        assert found.formation_energy_per_atom == pytest.approx(expected.formation_energy_per_atom, abs=1e-9)
        assert found.crystal.reduced_formula == expected.crystal.reduced_formula
        assert found.crystal.volume == pytest.approx(expected.crystal.volume, rel=1e-4)
        assert sorted(distances(found.crystal)) == pytest.approx(sorted(distances(expected.crystal)), abs=2e-3)


def distances(crystal):
    return crystal.to_structure().distance_matrix[np.triu_indices(crystal.n_atoms)]


@pytest.mark.parametrize("kind", WRITERS)
def test_the_stage_writes_the_same_bytes_twice_and_reads_them_back(tmp_path, kind):
    path = WRITERS[kind](tmp_path)
    block = database("aflow", origin="file", path=str(path), file=options_for(kind).model_dump())
    for name in ("once", "twice"):
        acquire("lab", block, tmp_path / name)
    assert all((tmp_path / "twice" / p.name).read_bytes() == p.read_bytes() for p in (tmp_path / "once").iterdir())
    records, _ = split(read_snapshot(tmp_path / "once"))
    assert [r.material_id for r in records] == [r.material_id for r in rows()]


def test_columns_are_mapped_and_units_converted(tmp_path):
    path = tmp_path / "odd.csv"
    record = rows()[0]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "E total", "gap meV", "cif"])
        writer.writerow(["a", 2.5 * record.crystal.n_atoms, 1250, cif_of(record)])
    options = PLAIN.model_copy(
        update={
            "columns": {"material_id": "name", "formation_energy_per_atom": "E total", "band_gap": "gap meV"},
            "units": {"formation_energy_per_atom": "kJ/mol/cell", "band_gap": "meV"},
            "functional": "r2SCAN",
        }
    )
    (found,), _ = split(import_file(path, options, "lab"))
    assert found.material_id == "a"
    assert found.band_gap == pytest.approx(1.25)
    assert found.formation_energy_per_atom == pytest.approx(2.5 / 96.48533, rel=1e-5)
    assert found.functional == "r2SCAN"


@pytest.mark.parametrize(("unit", "factor"), [("nm", 10.0), ("pm", 0.01), ("bohr", 0.529177210903)])
def test_limits_hold_for_lengths_after_their_conversion(tmp_path, unit, factor):
    silicon = {"material_id": "si", "species": ["Si", "Si"], "frac_coords": [[0, 0, 0], [0.25, 0.25, 0.25]]}
    fcc = 5.43 / 2 * (np.ones((3, 3)) - np.eye(3))
    flat = {**silicon, "material_id": "flat", "lattice": (fcc * [1, 1, 0.001] / factor).tolist()}
    path = tmp_path / "lab.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ({**silicon, "lattice": (fcc / factor).tolist()}, flat)))
    options = PLAIN.model_copy(update={"units": {"lattice": unit}})
    record, rejection = import_file(path, options, "lab")
    assert record.crystal.lattice == pytest.approx(fcc)
    assert rejection.reason == "zero_volume"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"columns": {"gap": "x"}}, r"databases\.lab\.file\.columns\.gap: unknown name; known are material_id"),
        ({"units": {"band_gap": "J"}}, r"units\.band_gap = 'J': unknown unit; known are eV, meV"),
        ({"units": {"mass": "g"}}, r"units\.mass: unknown quantity"),
    ],
)
def test_a_misspelt_mapping_is_told_before_any_work(tmp_path, changes, told):
    with pytest.raises(ParameterError, match=told):
        list(import_file(tmp_path / "absent", PLAIN.model_copy(update=changes), "lab"))


def test_wrong_units_are_noticed(tmp_path):
    lines = [plain(r) | {"formation_energy_per_atom": r.formation_energy_per_atom * 96.5 - 50} for r in rows() * 2]
    path = tmp_path / "kj.jsonl"
    path.write_text("".join(json.dumps(line | {"material_id": str(n)}) + "\n" for n, line in enumerate(lines)))
    block = database("aflow", origin="file", path=str(path))
    with pytest.raises(InputError, match=r"databases\.lab\.file\.units\.formation_energy_per_atom"):
        acquire("lab", block, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------- broken files
def reasons(path, kind="records"):
    records, rejections = split(import_file(path, options_for(kind), "lab"))
    return len(records), [(r.row, r.reason) for r in rejections]


def test_bad_lines_are_rejected_one_by_one(tmp_path):
    good = [plain(r) for r in rows()[:2]]
    bad = [
        "{not json",
        json.dumps([1, 2]),
        json.dumps(good[0] | {"species": ["Xx"] * len(good[0]["species"])}),
        json.dumps(good[0] | {"lattice": [0.0] * 9}),
        json.dumps(good[0] | {"frac_coords": good[0]["frac_coords"][:-3]}),
        json.dumps(good[0] | {"frac_coords": None}),
        json.dumps(good[0] | {"band_gap": "wide"}),
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([json.dumps(good[0]), *bad, json.dumps(good[1])]) + "\n")
    expected = ["invalid_json", "invalid_json", "unknown_element", "zero_volume", "count_mismatch"]
    expected += ["structure_missing", "not_a_number"]
    assert reasons(path) == (2, list(enumerate(expected, 1)))


def test_a_nan_label_passes_on_to_curation(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(plain(rows()[0]) | {"band_gap": float("nan")}) + "\n")
    acquire("lab", database("aflow", origin="file", path=str(path)), tmp_path / "out")
    (record,), _ = split(read_snapshot(tmp_path / "out"))
    assert record.band_gap != record.band_gap


@pytest.mark.parametrize("kind", ["records", "csv", "matbench", "extxyz", "optimade", "pymatgen"])
def test_a_truncated_file_keeps_the_rows_before_the_cut(tmp_path, kind):
    path = WRITERS[kind](tmp_path)
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    cut = tmp_path / "cut" / path.name.removesuffix(".gz")
    cut.parent.mkdir()
    cut.write_bytes(raw[: int(len(raw) * 0.7)])
    n_records, rejected = reasons(cut, kind)
    assert 0 < n_records < N_ROWS
    assert len(rejected) == 1


def test_a_damaged_gzip_gives_no_row_at_all(tmp_path):
    """Its checksum stands at the end: before that nobody knows whether a label is what was written."""
    raw = gzip.compress("".join(json.dumps(plain(r)) + "\n" for r in rows() * 40).encode(), compresslevel=1)
    path = tmp_path / "x.jsonl.gz"
    chance = np.random.default_rng(5)
    for trial in range(40):
        broken = bytearray(raw)
        broken[chance.integers(20, len(raw))] ^= 1 << chance.integers(8)
        path.write_bytes(bytes(broken) if trial else raw[:-200])
        with pytest.raises(InputError, match=r"damaged or cut off .* no row of it was used"):
            list(import_file(path, PLAIN, "lab"))


def test_a_gzip_that_expands_beyond_reason_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb") as stream:
        for _ in range(100):
            stream.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(InputError, match="times its size"):
        list(import_file(path, PLAIN, "lab"))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_cgcnn_folder_names_absent_cifs_and_absent_labels(tmp_path):
    home = write_cgcnn(tmp_path)
    (home / f"{rows()[0].material_id}.cif").unlink()
    (home / f"{rows()[1].material_id}.cif").write_text("")
    (home / "extra.cif").write_text(cif_of(rows()[2]))
    n_records, rejected = reasons(home, "cgcnn")
    assert n_records == N_ROWS - 2
    assert [reason for _, reason in rejected] == ["structure_missing", "empty_file", "label_missing"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.csv", b"", "is empty"),
        ("no_cif.csv", b"a,b\n1,2\n", "one must be 'cif'"),
        ("x.docx", b"hello", "unknown kind of file"),
        ("frames.xyz", b"H 0 0 0\n", "where a number of atoms is expected"),
        ("x.parquet", b"PAR1 no", "not a complete parquet"),
        ("none.jsonl", b"{broken\n", "holds no usable row; none.jsonl row 0: invalid_json"),
        ("absent.json", None, "does not exist"),
    ],
)
def test_a_file_that_is_no_use_is_one_clear_error(tmp_path, name, content, told):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        acquire("lab", database("aflow", origin="file", path=str(path)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["records", "matbench", "pymatgen"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    """Ten times the rows: the peak of what python allocates while streaming stays below the file's growth."""

    def peak(n_times):
        path = tmp_path / f"{n_times}" / {"records": "x.jsonl", "matbench": "x.json.gz", "pymatgen": "x.json"}[kind]
        path.parent.mkdir()
        structures = [r.crystal.to_structure().as_dict() for r in rows()]
        if kind == "records":
            path.write_text("".join(json.dumps(plain(r)) + "\n" for r in rows()) * n_times)
        elif kind == "matbench":
            data = [[s, 1.0] for s in structures] * n_times
            frame = {"columns": ["structure", "gap pbe"], "index": list(range(len(data))), "data": data}
            path.write_bytes(gzip.compress(json.dumps(frame).encode(), compresslevel=1))
        else:
            path.write_text(json.dumps(structures * n_times))
        tracemalloc.start()
        n_records = sum(1 for _ in import_file(path, PLAIN, "lab"))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert n_records == N_ROWS * n_times
        return used

    assert peak(200) < 2 * peak(40) + 2e6
