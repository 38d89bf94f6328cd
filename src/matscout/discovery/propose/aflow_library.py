"""Pymatgen's library of AFLOW prototypes, read without its bibliography.

On import, pymatgen parses 288 BibTeX entries of its own to see whether they are well-formed: several times the
work of all that is used here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pymatgen.util import provenance


@contextmanager
def _references_unread() -> Iterator[None]:
    """Let pymatgen take its own references as they are."""
    check = provenance.is_valid_bibtex
    provenance.is_valid_bibtex = lambda _: True
    try:
        yield
    finally:
        provenance.is_valid_bibtex = check


with _references_unread():
    from pymatgen.analysis.prototypes import canonicalize_element_wyckoffs
    from pymatgen.analysis.prototypes.matcher import AFLOW_PROTOTYPE_LIBRARY

__all__ = ["AFLOW_PROTOTYPE_LIBRARY", "canonicalize_element_wyckoffs"]
