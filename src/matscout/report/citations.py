"""What to cite: the databases of a run, and the papers of its members' architectures."""

import inspect
import sys
from collections.abc import Iterable

from matscout.models.registry import ENCODERS
from matscout.params import Member
from matscout.sources.manifest import Manifest


def database_citations(manifests: Iterable[Manifest]) -> list[str]:
    """BibTeX of each database, each entry once: stand-ins derived from one database cite that one."""
    entries = [entry for manifest in manifests for entry in manifest.citation.split("\n") if entry]
    return list(dict.fromkeys(entries))


def paper_of(member: Member) -> str:
    """The paper of a member's architecture: the docstring of the file that implements it, as one line."""
    module = sys.modules[ENCODERS[member.architecture].__module__]
    return " ".join((inspect.getdoc(module) or "").split())
