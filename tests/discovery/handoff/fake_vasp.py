"""A VASP that computes nothing: it leaves the files that the real one leaves, in their form, with given energies."""

import gzip
import json

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.vasp import Incar, Poscar

from matscout.discovery.handoff.collect import shipped_elements
from matscout.sources.energy_corrections import correction_per_atom


def settings_of(folder):
    """The INCAR of a hand-off's folder, its potentials, and its cell."""
    labels = (folder / "POTCAR.spec").read_text().split()
    return Incar.from_file(folder / "INCAR"), labels, Structure.from_file(folder / "POSCAR")


def total_energy(structure, formation):
    """The total energy, eV, that stands for a formation energy per atom with MP2020's corrections."""
    elements = sum(n * shipped_elements()[e.symbol] for e, n in structure.composition.items())
    return len(structure) * (formation - correction_per_atom(structure, "mp2020")) + elements


def write_vasprun(path, structure, energy, incar, labels, *, gap=1.5, n_scf=7, nsw=0, steps=1):
    """`vasprun.xml` (gzipped if so named) as VASP 5.4 writes it, with one k-point and four bands.

    Args:
        path: to write.
        structure: final cell.
        energy: total, eV.
        incar: tags; those that VASP repeats as parameters are repeated.
        labels: potentials, one an element in the order of the cell.
        gap: between the second and third band, eV.
        n_scf: electronic steps of the last ionic step; NELM = not converged.
        nsw: ionic steps that were allowed.
        steps: ionic steps that were made; nsw = not converged.
    """
    symbols = list(dict.fromkeys(site.specie.symbol for site in structure))
    counts = [sum(site.specie.symbol == s for site in structure) for s in symbols]
    hubbards = [float(u) for u in incar["LDAUU"]] if incar.get("LDAU") else []
    parameters = {
        "ENMAX": incar.get("ENCUT", 520),
        "NELM": incar.get("NELM", 100),
        "NSW": nsw,
        "IBRION": 2 if nsw else -1,
        "ISPIN": 1,
        "LHFCALC": incar.get("LHFCALC", False),
        "AEXX": 0.25 if incar.get("LHFCALC") else 0.0,
        "HFSCREEN": incar.get("HFSCREEN", 0.0),
        "GGA": incar.get("GGA", "PE"),
        "LDAU": bool(hubbards),
        "NELECT": 4.0,
    }
    tags = {name: incar[name] for name in ("ENCUT", "NELM", "METAGGA", "LHFCALC", "GGA", "LDAU") if name in incar}
    u_lists = "".join(
        f'  <v name="{name}">{" ".join(map(str, values))}</v>\n'
        for name, values in (("LDAUU", hubbards), ("LDAUJ", [0.0] * len(hubbards)))
    )
    atoms = "".join(
        f"<rc><c>{site.specie.symbol:2}</c><c>{symbols.index(site.specie.symbol) + 1:4}</c></rc>\n"
        for site in structure
    )
    types = "".join(
        f"<rc><c>{n:4}</c><c>{s:2}</c><c>1.0</c><c>2.0</c><c> PAW_PBE {label} 06Sep2000                </c></rc>\n"
        for s, n, label in zip(symbols, counts, labels, strict=True)
    )
    scf = f'<scstep><energy><i name="e_fr_energy">{energy}</i><i name="e_0_energy">{energy}</i></energy></scstep>\n'
    energies = f'<energy><i name="e_fr_energy">{energy}</i><i name="e_wo_entrp">{energy}</i><i name="e_0_energy">{energy}</i></energy>\n'
    bands = [(-3.0, 1.0), (0.0, 1.0), (gap, 0.0), (gap + 2, 0.0)]
    eigen = "".join(f"<r>{e:9.4f} {o:9.4f}</r>\n" for e, o in bands)
    text = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator>
  <i name="program" type="string">vasp </i>
  <i name="version" type="string">5.4.4.18Apr17-6-g9f103f2a35</i>
 </generator>
 <incar>
{"".join(_entry(name, value) for name, value in tags.items())}{u_lists} </incar>
 <kpoints>
  <generation param="Gamma"><v type="int" name="divisions">1 1 1</v></generation>
  <varray name="kpointlist"><v>0.0 0.0 0.0</v></varray>
  <varray name="weights"><v>1.0</v></varray>
 </kpoints>
 <parameters><separator name="general">
{"".join(_entry(name, value) for name, value in parameters.items())}{u_lists} </separator></parameters>
 <atominfo>
  <atoms>{len(structure)}</atoms><types>{len(symbols)}</types>
  <array name="atoms"><dimension dim="1">ion</dimension><field type="string">element</field>
   <field type="int">atomtype</field><set>
{atoms}</set></array>
  <array name="atomtypes"><dimension dim="1">type</dimension><field type="int">atomspertype</field>
   <field type="string">element</field><field>mass</field><field>valence</field><field type="string">pseudopotential</field><set>
{types}</set></array>
 </atominfo>
 <structure name="initialpos">{_cell(structure)}</structure>
{"".join(f"<calculation>{scf * n_scf}<structure>{_cell(structure)}</structure>{energies}</calculation>" for _ in range(steps - 1))}
 <calculation>
{scf * n_scf}  <structure>{_cell(structure)}</structure>
{energies}  <eigenvalues><array><dimension dim="1">band</dimension><set><set comment="spin 1">
   <set comment="kpoint 1">
{eigen}   </set></set></set></array></eigenvalues>
  <dos><i name="efermi"> 0.5 </i></dos>
 </calculation>
 <structure name="finalpos">{_cell(structure)}</structure>
</modeling>
"""
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())


def write_outcar(folder, structure, energy, incar, labels, *, converged=True, nsw=0):
    """`OUTCAR` with the lines that say what was computed, and the `CONTCAR` beside it."""
    titles = "".join(f"   TITEL  = PAW_PBE {label} 06Sep2000\n" for label in labels)
    u = " ".join(f"{float(value):.3f}" for value in incar["LDAUU"]) if incar.get("LDAU") else ""
    hubbard = (
        f" LDA+U is selected, type is set to LDAUTYPE =  2\n   U (eV) for each species  LDAUU =  {u}\n" if u else ""
    )
    ended = "------------------------ aborting loop because EDIFF is reached ----------------------------------------\n"
    (folder / "OUTCAR").write_text(
        f""" vasp.5.4.4.18Apr17-6-g9f103f2a35 (build Mar 29 2020) complex
 POTCAR:    PAW_PBE {labels[0]} 06Sep2000
{titles}   ENCUT  =  {incar.get("ENCUT", 520):.1f} eV  38.22 Ry    6.18 a.u.   7.69  7.69  8.73*2*pi/ulx,y,z
   NSW    =      {nsw}    number of steps for IOM
{hubbard}   GGA     =    --    GGA type
   METAGGA =    --
   LHFCALC =     F    Hartree Fock is set to
--------------------------------------- Iteration      1(   7)  ---------------------------------------
{ended if converged else ""}  free  energy   TOTEN  =       {energy:.8f} eV

  energy  without entropy=      {energy:.8f}  energy(sigma->0) =      {energy:.8f}

 General timing and accounting informations for this job:
"""
    )
    Poscar(structure).write_file(str(folder / "CONTCAR"))


def task_document(structure, energy, incar, labels, *, gap=1.5, state="successful", **more):
    """A task document as atomate2 stores it (emmet's `TaskDoc`), shortened to what it says of the calculation."""
    symbols = list(dict.fromkeys(site.specie.symbol for site in structure))
    u = dict(zip(symbols, map(float, incar["LDAUU"]), strict=True)) if incar.get("LDAU") else {}
    return {
        "state": state,
        "run_type": "PBE+U" if u else "PBE",
        "structure": structure.as_dict(),
        "input": {
            "incar": {name: value for name, value in incar.items() if name in {"ENCUT", "NSW", "METAGGA", "GGA"}},
            "parameters": {"ENMAX": incar.get("ENCUT", 520), "NSW": 0, "GGA": "PE"},
            "potcar_spec": [{"titel": f"PAW_PBE {label} 06Sep2000", "hash": None} for label in labels],
            "is_hubbard": bool(u),
            "hubbards": u,
        },
        "output": {"structure": structure.as_dict(), "energy": energy, "bandgap": gap},
        "calcs_reversed": [{"has_vasp_completed": True, "output": {"bandgap": gap}}],
    } | more


def structure_entry(structure, energy, incar, labels, **more):
    """A `ComputedStructureEntry` as pymatgen writes it."""
    symbols = list(dict.fromkeys(site.specie.symbol for site in structure))
    u = dict(zip(symbols, map(float, incar["LDAUU"]), strict=True)) if incar.get("LDAU") else {}
    parameters = {
        "run_type": "GGA+U" if u else "GGA",
        "hubbards": u,
        "potcar_symbols": [f"PBE {label}" for label in labels],
    }
    return {
        "@module": "pymatgen.entries.computed_entries",
        "@class": "ComputedStructureEntry",
        "structure": structure.as_dict(),
        "energy": energy,
        "parameters": parameters,
        "data": {"bandgap": 1.5},
        "entry_id": "run-7",
    } | more


def write_json(path, content):
    text = json.dumps(content, default=lambda value: np.asarray(value).tolist()).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def _entry(name, value):
    if isinstance(value, bool):
        return f'  <i type="logical" name="{name}">{"T" if value else "F"}</i>\n'
    if isinstance(value, str):
        return f'  <i type="string" name="{name}">{value}</i>\n'
    kind = ' type="int"' if isinstance(value, int) else ""
    return f'  <i{kind} name="{name}">{value}</i>\n'


def _cell(structure):
    rows = "".join("<v>{:.8f} {:.8f} {:.8f}</v>".format(*row) for row in structure.lattice.matrix)
    sites = "".join("<v>{:.8f} {:.8f} {:.8f}</v>".format(*site.frac_coords) for site in structure)
    volume = f'<i name="volume">{structure.volume:.6f}</i>'
    crystal = f'<crystal><varray name="basis">{rows}</varray>{volume}</crystal>'
    return f'{crystal}<varray name="positions">{sites}</varray>'
