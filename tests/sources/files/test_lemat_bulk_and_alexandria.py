"""LeMat-Bulk and Alexandria in the layouts that they publish: labels, functional, licence and citation."""

import bz2
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sample_rows import database, sample_records, split

from matscout.errors import InputError
from matscout.sources.acquire import acquire
from matscout.sources.files.import_file import detect
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

# eV/atom of the elements, by functional: what a total energy holds beside the energy of formation
ELEMENTS = {"Na": -1.3, "Cl": -1.8, "K": -1.0}
SHIFT = {"pbe": 0.0, "pbesol": -0.4, "scan": -3.0}
FORMED = {"NaCl": -2.0, "KCl": -2.1, "NaKCl2": -1.9}
CORRECTION = -0.614  # per Cl of a compound, in the corrected energies


def lemat_row(name, symbols, functional="pbe", *, corrected=True, above=0.0):
    n_chlorine = symbols.count("Cl") if len(set(symbols)) > 1 else 0
    energy = sum(ELEMENTS[s] + SHIFT[functional] for s in symbols) + len(symbols) * above
    return {
        "elements": sorted(set(symbols)),
        "nsites": len(symbols),
        "nelements": len(set(symbols)),
        "lattice_vectors": [[5.6, 0.0, 0.0], [0.0, 5.6, 0.0], [0.0, 0.0, 5.6]],
        "immutable_id": name,
        "cartesian_site_positions": [[1.4 * i, 1.4 * (i % 2), 0.0] for i in range(len(symbols))],
        "species": json.dumps(
            [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(set(symbols))]
        ),
        "species_at_sites": symbols,
        "energy": energy,
        "energy_corrected": energy + CORRECTION * n_chlorine if corrected else None,
        "functional": functional,
        "cross_compatibility": True,
    }


def lemat_rows():
    rows = []
    for functional in SHIFT:
        rows += [lemat_row(f"mp-{e}-{functional}", [e] * 2, functional) for e in ELEMENTS]
        rows.append(lemat_row(f"mp-high-{functional}", ["Na"], functional, above=0.5))  # no reference: a higher one
        rows += [
            lemat_row(f"agm-{name}-{functional}", symbols, functional, above=FORMED[name])
            for name, symbols in (("NaCl", ["Na", "Cl"]), ("KCl", ["K", "Cl"]), ("NaKCl2", ["Na", "K", "Cl", "Cl"]))
        ]
    rows.append(lemat_row("oqmd-1", ["Na", "Cl"], corrected=False, above=-1.0))
    return rows


def write_parquet(folder):
    pq.write_table(pa.Table.from_pylist(lemat_rows()), folder / "0000.parquet")
    return folder / "0000.parquet"


def write_shards(folder):
    """Elements in one file, compounds in others: references hold across files."""
    home = folder / "compatible_pbe"
    home.mkdir()
    for place, row in enumerate(lemat_rows()):
        pq.write_table(
            pa.Table.from_pylist([row], schema=pa.Table.from_pylist(lemat_rows()).schema), home / f"{place:04d}.parquet"
        )
    return home


def write_lines(folder):
    path = folder / "lemat.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in lemat_rows()).encode()))
    return path


@pytest.mark.parametrize("write", [write_parquet, write_shards, write_lines])
def test_lemat_bulk_s_formation_energies_are_against_its_own_elements_of_the_same_functional(tmp_path, write):
    path = write(tmp_path)
    assert detect(path) == "lemat_bulk"
    acquire("lab", database("oqmd", origin="file", path=str(path)), tmp_path / "raw")
    records, rejections = split(read_snapshot(tmp_path / "raw"))
    assert not rejections
    found = {record.material_id: record for record in records}
    assert len(found) == len(lemat_rows())
    for functional, ours in (("pbe", "PBE"), ("pbesol", "PBEsol"), ("scan", "SCAN")):
        for name, formed in FORMED.items():
            record = found[f"agm-{name}-{functional}"]
            expected = formed + CORRECTION * record.crystal.species.count("Cl") / record.crystal.n_atoms
            assert record.formation_energy_per_atom == pytest.approx(expected)
            assert (record.functional, record.energy_corrections) == (ours, "mp2020")
        assert found[f"mp-high-{functional}"].formation_energy_per_atom == pytest.approx(0.5)
    assert found["oqmd-1"].formation_energy_per_atom == pytest.approx(-1.0)
    assert found["oqmd-1"].energy_corrections == "none"
    manifest = read_manifest(tmp_path / "raw")
    assert "CC BY 4.0" in manifest.licence
    assert all(name in manifest.citation for name in ("LeMat-Bulk", "Jain2013", "Schmidt2023", "Saal2013"))


def test_a_row_of_lemat_bulk_without_a_reference_has_no_formation_energy(tmp_path):
    rows = [row for row in lemat_rows() if row["elements"] != ["K"]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    acquire("lab", database("oqmd", origin="file", path=str(tmp_path / "x.parquet")), tmp_path / "raw")
    records, _ = split(read_snapshot(tmp_path / "raw"))
    assert {r.material_id for r in records if r.formation_energy_per_atom is None} == {
        f"agm-{name}-{functional}" for name in ("KCl", "NaKCl2") for functional in SHIFT
    }


# ------------------------------------------------------------------------- Alexandria
def entries():
    chosen = [r for r in sample_records("materials_project") if getattr(r, "band_gap", None) is not None][:12]
    return [
        {
            "@module": "pymatgen.entries.computed_entries",
            "@class": "ComputedStructureEntry",
            "energy": -12.0,
            "composition": {},
            "entry_id": f"agm{place:09d}",
            "correction": 0.0,
            "parameters": {},
            "data": {
                "mat_id": f"agm{place:09d}",
                "e_form": record.formation_energy_per_atom,
                "e_above_hull": 0.01 * place,
                "band_gap_ind": record.band_gap,
                "band_gap_dir": record.band_gap + 1,
                "spg": 225,
            },
            "structure": record.crystal.to_structure().as_dict(),
        }
        for place, record in enumerate(chosen)
    ]


@pytest.mark.parametrize(
    ("name", "functional"),
    [
        ("alexandria_000.json.bz2", "PBE"),
        ("alexandria_ps_000.json.bz2", "PBEsol"),
        ("alexandria_scan_000.json.bz2", "SCAN"),
        ("alexandria_000.json", "PBE"),
        ("alexandria_000.json.gz", "PBE"),
    ],
)
def test_alexandria_s_entries_have_their_labels_and_the_functional_of_their_file(tmp_path, name, functional):
    raw = json.dumps({"entries": entries()}).encode()
    packed = {"bz2": bz2.compress, "gz": gzip.compress}.get(name.rsplit(".", 1)[-1], bytes)(raw)
    path = tmp_path / name
    path.write_bytes(packed)
    assert detect(path) == "alexandria"
    acquire("lab", database("oqmd", origin="file", path=str(path)), tmp_path / "raw")
    records, rejections = split(read_snapshot(tmp_path / "raw"))
    assert not rejections
    for record, entry in zip(records, entries(), strict=True):
        data = entry["data"]
        assert (record.material_id, record.functional) == (data["mat_id"], functional)
        assert (record.band_gap, record.energy_above_hull) == (data["band_gap_ind"], data["e_above_hull"])
        assert record.formation_energy_per_atom == data["e_form"]
    manifest = read_manifest(tmp_path / "raw")
    assert (manifest.licence, "Schmidt2023" in manifest.citation) == ("CC BY 4.0", True)


def test_a_folder_of_alexandria_s_files_is_read_in_order(tmp_path):
    home = tmp_path / "alexandria"
    home.mkdir()
    for part in range(3):
        content = json.dumps({"entries": entries()[4 * part : 4 * part + 4]}).encode()
        (home / f"alexandria_{part:03d}.json.bz2").write_bytes(bz2.compress(content))
    acquire("lab", database("oqmd", origin="file", path=str(home)), tmp_path / "raw")
    records, _ = split(read_snapshot(tmp_path / "raw"))
    assert [record.material_id for record in records] == [entry["entry_id"] for entry in entries()]


def test_an_entry_without_a_structure_is_quarantined_and_a_cut_off_file_keeps_what_came_before(tmp_path):
    broken = entries()
    broken[2]["structure"] = None
    (tmp_path / "a.json.bz2").write_bytes(bz2.compress(json.dumps({"entries": broken}).encode()))
    acquire("lab", database("oqmd", origin="file", path=str(tmp_path / "a.json.bz2")), tmp_path / "raw")
    records, rejections = split(read_snapshot(tmp_path / "raw"))
    assert (len(records), [r.reason for r in rejections]) == (11, ["structure_malformed"])
    text = json.dumps({"entries": entries()}).encode()
    (tmp_path / "b.json.bz2").write_bytes(bz2.compress(text[: len(text) // 2]))
    acquire("lab", database("oqmd", origin="file", path=str(tmp_path / "b.json.bz2")), tmp_path / "cut")
    records, rejections = split(read_snapshot(tmp_path / "cut"))
    assert 0 < len(records) < 12
    assert [r.reason for r in rejections] == ["truncated_file"]


def test_what_is_no_bzip2_is_told(tmp_path):
    (tmp_path / "a.json.bz2").write_bytes(b"no bzip2 at all")
    with pytest.raises(InputError, match="holds no usable row"):
        acquire("lab", database("oqmd", origin="file", path=str(tmp_path / "a.json.bz2")), tmp_path / "raw")
