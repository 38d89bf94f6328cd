"""`matscout profile`: write the values of a kind of machine (`profiles/*.yaml`) into params.yaml; comments stay."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from matscout.errors import ParameterError
from matscout.files import write_bytes
from matscout.params import PARAMS_FILE, check_params

PROFILES = Path("profiles")
OPTIONAL = ("start",)  # optional keys of a member
BY_ARCHITECTURE = "architectures"  # key of a profile whose values apply to every member of an architecture
DATABASES = "databases"
SWITCHED = ("sample", "api")  # origins that a profile replaces; a file or another service is the user's own choice

KeyPath = tuple[str, ...]


def put_in(name: str, params: Path = PARAMS_FILE, profiles: Path = PROFILES) -> dict[str, tuple[Any, Any]]:
    """Write the values of `profiles/<name>.yaml` into a parameter file; names, seeds and everything else stay.

    Args:
        name: name of the profile.
        params: the parameter file.
        profiles: folder of the profiles.

    Returns:
        (value before, value now) by dotted path of each value that changed.

    Raises:
        ParameterError: there is no such profile, or params.yaml lacks a key or would break a rule.
    """
    known = sorted(file.stem for file in profiles.glob("*.yaml"))
    if name not in known:
        raise ParameterError(f"profile {name!r} is unknown; choose one of {known} (files of {profiles}/)")
    text = params.read_text()
    tree = check_params(yaml.safe_load(text), params).model_dump(mode="json")
    wanted = dict(wishes(yaml.safe_load((profiles / f"{name}.yaml").read_text()), tree))
    written, changes = with_values(text, wanted)
    check_params(yaml.safe_load(written), params)
    if changes:
        write_bytes(params, written.encode())
    return {".".join(path): values for path, values in changes.items()}


def wishes(profile: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    """Each value of a profile with its place in params.yaml.

    A database that is not in params.yaml, or that has an origin of the user's own, keeps what it has.

    Args:
        profile: content of the profile.
        params: content of params.yaml.

    Yields:
        (keys that lead to the value, value).
    """
    for key, block in profile.items():
        if key not in {BY_ARCHITECTURE, DATABASES}:
            yield from _leaves(block, (key,))
    for name, block in profile[DATABASES].items():
        if name in params[DATABASES] and params[DATABASES][name]["origin"] in SWITCHED:
            yield from _leaves(block, (DATABASES, name))
    for name, member in params["members"].items():
        yield from _leaves(profile[BY_ARCHITECTURE].get(member["architecture"], {}), ("members", name))


def with_values(text: str, wanted: Mapping[KeyPath, Any]) -> tuple[str, dict[KeyPath, tuple[Any, Any]]]:
    """Replace scalars in YAML text; every other character stays.

    Args:
        text: text of the file.
        wanted: new value by the keys that lead to it.

    Returns:
        The new text, and (value before, value now) of each value that changed.

    Raises:
        ParameterError: the text has no such place.
    """
    tree, root = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    spans, changes = [], {}
    for path, value in wanted.items():
        before, node = tree, root
        for key in path:
            node = next((child for name, child in node.value if name.value == key), None) if node else None
            before = before.get(key) if isinstance(before, Mapping) else None
        if node is None and path[-1] in OPTIONAL:
            continue
        if node is None:
            raise ParameterError(f"{'.'.join(path)}: params.yaml has no such key; add it, or take it out of profiles/")
        if before != value:
            spans.append((node.start_mark.index, node.end_mark.index, _scalar(value)))
            changes[path] = before, value
    for start, end, value in sorted(spans, reverse=True):
        text = text[:start] + value + text[end:]
    return text, changes


def _leaves(tree: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _scalar(value: Any) -> str:
    return re.sub(r"\n(\.\.\.\n)?$", "", yaml.safe_dump(value))
