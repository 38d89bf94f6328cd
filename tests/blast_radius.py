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
            for part in ("path", "from"):
                if isinstance(item, dict) and part in item:
                    text = text.replace(f"${{item.{part}}}", item[part])
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


def leaves(tree: dict, path: tuple[str, ...] = ()):
    """Every parameter with its dotted path: what holds no block of its own."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def shown(stages: set[str], order: list[str]) -> str:
    """Stages in their order in dvc.yaml, with all members or databases of a stage as one."""
    names = []
    for stage in order:
        base = stage.split("@")[0]
        family = [name for name in order if name.split("@")[0] == base]
        name = f"{base}@*" if len(family) > 1 and stages.issuperset(family) else stage
        if stage in stages and name not in names:
            names.append(name)
    return ", ".join(f"`{name}`" for name in names)


def table(root: Path) -> str:
    """docs/parameters.md: blocks of parameters that rerun the same stages share a line."""
    stages, params = expanded_stages(root), yaml.safe_load((root / "params.yaml").read_text())
    lines: dict[str, str] = {}
    for path, _ in leaves(params):
        block = ".".join(
            path[:2] if path[0] in {"members", "pretrained", "finetuned", "distilled", "databases"} else path[:1]
        )
        reached = downstream(stages, direct_stages(stages, ".".join(path)))
        known = lines.setdefault(block, shown(reached, list(stages)))
        if known != shown(reached, list(stages)):
            lines[".".join(path)] = shown(reached, list(stages))
    rows = "\n".join(f"| `{block}` | {names} |" for block, names in lines.items())
    return (
        "# What a parameter reruns\n\n"
        "Made by `python tests/blast_radius.py`; a test compares it with what DVC says of one parameter of each block.\n"
        "`@*` is every member or database. A stage whose inputs come out unchanged reruns nothing after it.\n\n"
        "| parameters | stages that run |\n|---|---|\n"
        f"{rows}\n"
    )


if __name__ == "__main__":
    repository = Path(__file__).parents[1]
    (repository / "docs" / "parameters.md").write_text(table(repository))
