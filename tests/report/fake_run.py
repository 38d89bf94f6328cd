"""A whole run's outputs, made up: small, plausible in shape, and clearly no data of anybody."""

from pathlib import Path

import numpy as np
import pandas as pd

from matscout import columns
from matscout.crystal import Crystal
from matscout.files import write_json, write_parquet
from matscout.params import Params, check_params
from matscout.sources.snapshots.snapshot_files import Manifest, write_manifest

TARGETS = {"formation_energy_per_atom": (-1.5, 0.9), "band_gap": (1.6, 1.4)}
MEMBERS = ("cgcnn", "megnet", "alignn", "cogn", "comformer", "composition")
A_SITES, B_SITES, ANIONS = (
    ("Sr", "Ba", "Ca", "La", "K", "Na", "Cs"),
    ("Ti", "Zr", "Sn", "Fe", "Mn"),
    ("O", "S", "Cl", "N"),
)
OTHER_METRICS = (
    *(f"width_{level}" for level in (50, 80, 90, 95)),
    *("crps", "nll", "miscalibration_area", "ence", "spearman", "ause", "roc_auc_metal"),
    *("mae_most_certain_50", "mae_most_certain_80"),
)
NOTHING = {"value": None, "low": None, "high": None}
METALS = ("Cu", "Al", "Ni", "Ag", "Au", "Mg", "Zn")


def perovskite(rng) -> Crystal:
    a, b, x = (str(rng.choice(site)) for site in (A_SITES, B_SITES, ANIONS))
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Crystal((3.9 + 0.4 * rng.random()) * np.eye(3), (a, b, x, x, x), np.array(sites))


def rock_salt(rng) -> Crystal:
    symbols = (str(rng.choice(A_SITES + B_SITES)), str(rng.choice(ANIONS)))
    lattice = 2.6 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystal(lattice, symbols, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


def alloy(rng) -> Crystal:
    symbols = tuple(str(s) for s in rng.choice(METALS, size=2, replace=False))
    return Crystal(3.1 * np.eye(3), symbols, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


def crystal_row(rng) -> dict:
    crystal = (perovskite, rock_salt, alloy)[rng.integers(3)](rng)
    return {"formula": crystal.reduced_formula, "n_atoms": crystal.n_atoms, "space_group": 221, **crystal.to_row()}


def materials(rng, n_real: int, n_synthetic: int) -> pd.DataFrame:
    rows = []
    for i in range(n_real + n_synthetic):
        real = i < n_real
        source = "materials_project" if real else ("aflow", "oqmd")[i % 2]
        metal = rng.random() < 0.35
        energy = rng.normal(*TARGETS["formation_energy_per_atom"])
        rows.append(
            {
                columns.MATERIAL_ID: f"fake-{i:05d}",
                columns.SOURCE: source,
                columns.FUNCTIONAL: "PBE",
                columns.IS_HUBBARD: False,
                columns.SYNTHETIC: not real,
                columns.YEAR: None,
                columns.IS_EXPERIMENTAL: None,
                columns.BAND_GAP_FUNCTIONAL: None,
                columns.YTTERBIUM: None,
                **crystal_row(rng),
                "band_gap": 0.0 if metal else abs(rng.normal(*TARGETS["band_gap"])),
                "formation_energy_per_atom": energy,
                "energy_above_hull": abs(rng.normal(0, 0.05)),
                "bulk_modulus": np.nan,
                "shear_modulus": np.nan,
                "formation_energy_aligned": energy,
                "formation_energy_aligned_std": 0.0,
                "formation_energy_noise": 0.02,
                "band_gap_noise": 0.05,
                columns.DUPLICATE_GROUP: f"fake-{i if real else rng.integers(n_real):05d}",
                columns.IS_REPRESENTATIVE: real,
            }
        )
    return pd.DataFrame(rows)


def predicted(rng, truth: np.ndarray, target: str) -> dict:
    spread = 0.05 + 0.25 * rng.random(len(truth)) * (2 if target == "band_gap" else 1)
    estimate = truth + spread * rng.normal(size=len(truth))
    if target == "band_gap":
        estimate = np.where(truth == 0, 0.0, np.maximum(estimate, 0))
    table = {
        target: estimate,
        f"{target}_std": spread,
        f"{target}_lo90": estimate - 1.64 * spread,
        f"{target}_hi90": estimate + 1.64 * spread,
    }
    table |= {columns.member_column(target, m): estimate + 0.1 * rng.normal(size=len(truth)) for m in MEMBERS}
    return table


def figure(value: float) -> dict:
    return {"value": value, "low": 0.9 * value, "high": 1.1 * value}


def ensemble_metrics() -> dict:
    """In the shape of the stage `evaluate`."""
    targets = {}
    for target, base in (("band_gap", 0.45), ("formation_energy_per_atom", 0.11)):
        judged = {
            "n": 60,
            "mae": figure(base),
            "rmse": figure(1.4 * base),
            "r2": figure(0.8),
            **{f"coverage_{level}": figure(level / 100 + 0.01) for level in (50, 80, 90, 95)},
            **{name: figure(0.3) for name in OTHER_METRICS},
        }
        alone = judged | {"mae": figure(1.1 * base)}
        levels, kept = np.linspace(0, 1, 21), np.linspace(0.05, 1, 20)
        targets[target] = {
            "ensemble": {"all": judged, "metal": judged | {"n": 20, "r2": NOTHING}},
            "best_member": {"name": MEMBERS[0], "rows": {"all": alone, "metal": alone}},
            "members": {m: {"mae": figure(base * (1.1 + 0.08 * i))} for i, m in enumerate(MEMBERS)},
            "baselines": {
                "mean": {"mae": figure(3 * base)},
                "median": {"mae": figure(2.8 * base)},
                "gradient_boosting": {"mae": figure(1.5 * base)},
            },
            "distance_deciles": [
                {
                    "n": 6,
                    "mae": base * (0.6 + 0.08 * i),
                    "mean_std": base * (0.7 + 0.06 * i),
                    "coverage_90": 0.95 - 0.01 * i,
                }
                for i in range(10)
            ],
            "conformal_notes": [],
            "curves": {
                "calibration": {"predicted": levels.tolist(), "observed": (levels**0.95).tolist()},
                "interval_width": {
                    "edges": (base * np.linspace(0, 4, 6)).tolist(),
                    "count": [4, 30, 20, 5, 1],
                },
                "error_against_spread": {
                    "spread": (base * (0.2 + kept)).tolist(),
                    "error": (base * (0.3 + kept)).tolist(),
                },
                "confidence": {
                    "share_kept": kept.tolist(),
                    "mae": (base * (0.3 + 0.7 * kept)).tolist(),
                    "oracle": (base * kept**2).tolist(),
                },
            },
        }
    return {
        "members": list(MEMBERS),
        "targets": targets,
        "flags": {"far_limit": 2.0, "test_share_far": 0.012, "held_out_rows_with_unseen_elements": 0},
    }


def hypothetical_summary():
    return {
        "rows": 900,
        "by_fold": {"train": 800, "calibration": 100},
        "copies": 300,
        "potential": {"name": "Toy-1", "version": "1.0", "licence": "MIT"},
        "offsets": {"n_pairs": 350, "held_out_mae": 0.0123},
    }


def curation_summary(n_real: int, n_synthetic: int) -> dict:
    elements = {
        s: {"offset": 0.1 * i, "low95": 0.1 * i - 0.03, "high95": 0.1 * i + 0.03, "n_pairs": 40 - i}
        for i, s in enumerate(("O", "Sr", "Ti", "Cl"))
    }
    elements["O"] |= {"planted": 0.01, "inside": True}
    fit = {
        "fitted": True,
        "n_pairs": 120,
        "constant": {"value": 0.02, "low95": 0.01, "high95": 0.03},
        "elements": elements,
        "held_out": {"mae_before": 0.11, "mae_after": 0.02},
        "planted": {"n_elements": 1, "n_inside": 1},
    }
    return {
        "rows": {
            "materials_project": {"read": n_real, "rejected": 0, "kept": n_real, "synthetic": 0},
            "aflow": {
                "read": n_synthetic // 2 + 4,
                "rejected": 4,
                "kept": n_synthetic // 2,
                "synthetic": n_synthetic // 2,
            },
            "oqmd": {"read": n_synthetic // 2, "rejected": 0, "kept": n_synthetic // 2, "synthetic": n_synthetic // 2},
        },
        "total": {"rows": n_real + n_synthetic, "rejected": 4, "by_reason": {"atoms_too_close": 4}},
        "duplicates": {
            "groups": n_real,
            "groups_of_several_databases": n_synthetic,
            "edges_related_other_space_group": 1,
        },
        "offsets": {
            "reference": "materials_project",
            "functional": "PBE",
            "energy_corrections": "mp2020",
            "sources": {"aflow/PBE/none": fit, "oqmd/PBE/none": {"fitted": False, "n_pairs": 3, "min_pairs": 20}},
        },
    }


def ranked(rng, n: int) -> pd.DataFrame:
    rows = pd.DataFrame([crystal_row(rng) for _ in range(n)])
    for target, (centre, width) in TARGETS.items():
        truth = rng.normal(centre, width, size=n)
        rows = rows.assign(**predicted(rng, np.maximum(truth, 0.02) if target == "band_gap" else truth, target))
    probability = np.clip(1 - np.abs(rows["band_gap"] - 1.4), 0, 1)
    order = np.argsort(-probability.to_numpy(), kind="stable")
    rows = rows.assign(goal_probability=probability).iloc[order].reset_index(drop=True)
    best = np.minimum.accumulate(rows["formation_energy_per_atom"])
    above = {
        f"energy_above_hull{end}": rows[f"formation_energy_per_atom{end}"] + 1.6
        for end in ("", "_std", "_lo90", "_hi90")
    }
    rows = rows.assign(
        **above,
        competing_phases="0.60 SrO (fake-00001) + 0.40 TiO2 (fake-00002)",
        missing_references=["" if i % 5 else "Au-Cl" for i in range(n)],
        stability_judged=[bool(i % 5) for i in range(n)],
        stability_remark=["" if i % 5 else "no Au-Cl phase known" for i in range(n)],
        element_rules_met=True,
    )
    return rows.assign(
        candidate_id=[f"fc-{i:05d}" for i in range(n)],
        parent_id=[f"fake-{i:05d}" for i in range(n)],
        route=["substitution" if i % 3 else "prototype" for i in range(n)],
        substitution="Sr2+>Ba2+ Ti4+>Zr4+ O2->O2-",
        probability=0.013,
        volume_per_atom=12.0,
        metal_probability=0.1,
        goal_met=rows["band_gap"].between(1.0, 1.8),
        pareto_front=rows["formation_energy_per_atom"] == best,
        rank=np.arange(1, n + 1),
        far_from_training=[i % 7 == 3 for i in range(n)],
        unseen_elements=["" if i % 11 else "Re" for i in range(n)],
        known_formula=["" if i % 4 else "mp-149" for i in range(n)],
        batch=[i // 2 + 1 if i < 12 and i % 2 else 0 for i in range(n)],
        elemental_cost=[float("nan") if i % 9 == 1 else 0.5 + i for i in range(n)],
        crustal_abundance=0.001,
    )


def write_fake_run(data: Path, *, n_real: int = 600, n_synthetic: int = 60, n_candidates: int = 400) -> None:
    """Write every file that the report reads."""
    rng = np.random.default_rng(7)
    for i, name in enumerate(("materials_project", "aflow", "oqmd")):
        write_manifest(
            data / "raw" / name,
            Manifest(
                source=name,
                origin="sample",
                endpoint=None,
                query=None,
                format="fake",
                database_version=None,
                n_rows=(n_real + 4, n_synthetic, n_synthetic)[i],
                pages={},
                licence="CC BY 4.0",
                citation=f"@article{{Fake{i}, title={{A made-up citation <{name}>}}}}",
                client="fake_run",
                planted=None if i == 0 else {"constant": 0.02},
            ),
        )
    table = materials(rng, n_real, n_synthetic)
    write_parquet(data / "curated" / "materials.parquet", table)
    write_parquet(
        data / "curated" / "quarantine.parquet",
        pd.DataFrame(
            [
                {
                    "source": "aflow",
                    "material_id": f"fake-q{i}",
                    "file": "pages-00000.json.gz",
                    "row": i,
                    "reason": "atoms_too_close",
                    "detail": "0.21 Å between O and O; at least 0.6 Å; check the coordinates",
                }
                for i in range(4)
            ]
        ),
    )
    write_json(data / "curated" / "summary.json", curation_summary(n_real, n_synthetic))
    write_json(data / "hypothetical" / "summary.json", hypothetical_summary())
    fold = np.where(
        table[columns.SYNTHETIC],
        "unused",
        rng.choice(["train", "validation", "test"], size=len(table), p=[0.6, 0.1, 0.3]),
    )
    write_parquet(data / "splits" / "split.parquet", pd.DataFrame({"material_id": table["material_id"], "fold": fold}))
    write_members(data / "members", rng)
    held_out = table.assign(fold=fold)[np.isin(fold, ["validation", "test"])].reset_index(drop=True)
    predictions = held_out[["material_id", "source", "fold"]]
    for target, label in (("band_gap", "band_gap"), ("formation_energy_per_atom", "formation_energy_aligned")):
        truth = held_out[label].to_numpy()
        predictions = predictions.assign(**{target + columns.TRUTH: truth}, **predicted(rng, truth, target))
    flags = {"metal_probability": 0.2, "training_distance": 1.0, "far_from_training": False, "unseen_elements": ""}
    write_parquet(data / "ensemble" / "predictions.parquet", predictions.assign(**flags))
    write_json(data / "ensemble" / "metrics.json", ensemble_metrics())
    write_json(data / "ensemble" / "calibration.json", {"fake": True})
    candidates = ranked(rng, n_candidates)
    write_parquet(data / "candidates" / "candidates.parquet", candidates[["candidate_id", "formula"]])
    write_json(
        data / "candidates" / "attrition.json",
        {
            "n_candidates": n_candidates,
            "user_files_left_out": [],
            "by_route": {"substitution": 260, "prototype": 140},
            "gates": {"generated": 90000, "not_charge_neutral": 61000, "in_curated_set": 900, "atoms_too_close": 4200},
        },
    )
    write_parquet(data / "screening" / "ranked.parquet", candidates)
    write_relaxed(data / "relaxed", candidates)
    met = int(candidates["goal_met"].sum())
    write_json(
        data / "screening" / "summary.json",
        {
            "goal": "solar_absorber",
            "expected_hits": 81.2,
            "expected_hits_in_top": 18.9,
            "n_below_hull": 7,
            "n_stability_not_judged": 80,
            "n_barred_by_element_rules": 0,
            "outcome": f"{met} of {n_candidates} candidates meet the goal by their point predictions",
        },
    )


def write_relaxed(folder: Path, candidates: pd.DataFrame) -> None:
    """The first candidates relaxed; the third has left the shortlist."""
    first = candidates.head(23).reset_index(drop=True)
    compared = ["rank", "goal_probability", "energy_above_hull", "space_group", "volume_per_atom", *columns.CRYSTAL]
    before = first[[name for name in compared if name in first]].add_suffix("_before")
    energy = first["formation_energy_per_atom"]
    table = pd.concat([first, before], axis=1).assign(
        formation_energy_per_atom_by_ensemble=energy + 0.02,
        formation_energy_per_atom_by_potential=energy - 0.02,
        weight_of_potential=0.6,
        judges_disagree=[number == 1 for number in range(len(first))],
        judges_remark=[
            "the potential lies 0.30 eV/atom below the ensemble" if n == 1 else "" for n in range(len(first))
        ],
        energy_gained=0.04,
        moved=0.1,
        steps=12,
        converged=True,
        relaxed_into="",
        reason="",
        detail="",
        surface_energy=[np.nan if number == 1 else 1.3 for number in range(len(first))],
        surface_energy_std=[np.nan if number == 1 else 0.16 for number in range(len(first))],
        surface_energy_reason=["no_slab" if number == 1 else "" for number in range(len(first))],
        surface_energy_detail=["no low-index slab" if n == 1 else "(1 1 1), lowest" for n in range(len(first))],
        volume_change=-0.05,
        volume_change_std=0.1,
    )
    for name in ("volume_per_atom", "volume_per_atom_before"):
        if name not in table:
            table[name] = 15.0
    table["rank"] = pd.array([1, 2, None, *range(3, len(table))], dtype="Int64")
    table.loc[2, ["reason", "detail"]] = ["relaxed_into_known", "relaxed into fake-00001, known"]
    write_parquet(folder / "relaxed.parquet", table)
    potential = {"name": "Fake", "licence": "MIT", "training_data": "nothing"}
    known = {"n_validation_crystals": 60, "correlation_of_errors": 0.4, "mae_potential": 0.01, "mae_ensemble": 0.05}
    write_json(
        folder / "summary.json",
        {
            "potential": potential,
            "judge": potential,
            "n_chosen": len(table),
            "n_relaxed": len(table),
            "n_left_out": 1,
            "n_judges_disagree": 1,
            "expected_hits": 11.0,
            "expected_hits_before": 12.0,
            "mean_energy_gained": 0.04,
            "against_dft": known,
            "properties": {"surface_energy": {"n": 21, "failed_by_reason": {"no_slab": 1}}},
        },
    )


def write_members(folder: Path, rng) -> None:
    for i, name in enumerate(MEMBERS):
        epochs = np.arange(1, 21)
        history = {"epoch": epochs, "train_loss": 2 / epochs, "validation_loss": 2.2 / epochs}
        for target, base in (("band_gap", 0.4), ("formation_energy_per_atom", 0.1)):
            history[f"mae_{target}"] = base * (1 + 0.05 * i) * (1 + 3 / epochs) * (1 + 0.03 * rng.normal(size=20))
        write_parquet(folder / name / "history.parquet", pd.DataFrame(history).assign(lr=0.001))
        write_json(folder / name / "member.json", {"name": name, "weights_sha256": f"{i:064d}"})
        mae = {"band_gap": 0.4 + 0.02 * i, "formation_energy_per_atom": 0.1 + 0.01 * i}
        write_json(
            folder / name / "metrics.json",
            {
                "epochs": 20,
                "n_parameters": 81000 + 1000 * i,
                "n_rows": {"train": 360, "validation": 60, "test": 180},
                "validation": {"mae": mae},
                "test": {"mae": mae},
            },
        )


def fake_params(repository: Path) -> Params:
    """The repository's own params.yaml."""
    import yaml

    return check_params(yaml.safe_load((repository / "params.yaml").read_text()))
