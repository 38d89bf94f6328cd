"""Which stages run when a parameter changes, read from dvc.yaml: the table in docs/parameters.md."""

from pathlib import Path

import yaml


def expanded_stages(root: Path) -> dict[str, dict]:
    """The stages of dvc.yaml with `foreach` written out."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    stages: dict[str, dict] = {}
    for name, stage in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].items():
        if "foreach" not in stage:
            stages[name] = stage
            continue
        for key, item in params[stage["foreach"].strip("${}")].items():
            text = yaml.safe_dump(stage["do"]).replace("${key}", key)
            if isinstance(item, dict) and "path" in item:
                text = text.replace("${item.path}", item["path"])
            stages[f"{name}@{key}"] = yaml.safe_load(text)
    return stages


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _outs(stage: dict) -> list[str]:
    entries = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def downstream(stages: dict[str, dict], starts: set[str]) -> set[str]:
    """`starts` and every stage that reads, directly or not, what they write."""
    reached = set(starts)
    while True:
        written = [out for name in reached for out in _outs(stages[name])]
        more = {
            name
            for name, stage in stages.items()
            if name not in reached and any(_overlap(dep, out) for dep in stage["deps"] for out in written)
        }
        if not more:
            return reached
        reached |= more


def direct_stages(stages: dict[str, dict], parameter: str) -> set[str]:
    """Stages that list `parameter` or a block around it."""
    return {
        name
        for name, stage in stages.items()
        if any(parameter == listed or parameter.startswith(f"{listed}.") for listed in stage.get("params", []))
    }
