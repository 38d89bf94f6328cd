"""What to cite: the databases of a run, and the papers of its members' architectures."""

import ast
from collections.abc import Iterable
from importlib.resources import files

from matscout.params import Member
from matscout.sources.snapshots.manifest import Manifest


def database_citations(manifests: Iterable[Manifest]) -> list[str]:
    """BibTeX of each database, each entry once: stand-ins derived from one database cite that one."""
    entries = [entry for manifest in manifests for entry in manifest.citation.split("\n") if entry]
    return list(dict.fromkeys(entries))


def paper_of(member: Member) -> str:
    """The paper of a member's architecture: the docstring of the file that implements it, as one line.

    The file has the architecture's name. It is read, not imported: a page about a model needs no torch.
    """
    source = files("matscout.models.encoders").joinpath(f"{member.architecture}.py").read_text(encoding="utf-8")
    return " ".join((ast.get_docstring(ast.parse(source)) or "").split())
