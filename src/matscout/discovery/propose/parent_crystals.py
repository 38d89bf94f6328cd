"""Parents: curated crystals that read as salts, as templates with an ion on each slot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from matscout import params
from matscout.discovery.known_materials import CuratedTable
from matscout.discovery.propose.crystal_templates import Template, make_templates
from matscout.discovery.propose.gates import Attrition
from matscout.discovery.propose.oxidation_states import IonTable
from matscout.engine import parallel_stream

BLOCK = 10_000  # parents read before asking whether they suffice
CHUNK = 500  # crystals a task
PARALLEL_FROM = 3_000  # crystals: for fewer, starting processes takes longer than the work
LARGEST_CELL = 4  # times max_atoms: a conventional cell holds up to four primitive ones


@dataclass(frozen=True)
class Parent:
    """A template and the row of the ion on each of its slots."""

    template: Template
    ions: tuple[int, ...]


def template_blocks(
    curated: CuratedTable,
    settings: params.Candidates,
    attrition: Attrition,
    rng: np.random.Generator,
    *,
    workers: int,
) -> Iterator[Iterator[list[Template | None]]]:
    """Templates of the curated set's crystals of usable size, in random order, block by block, in chunks.

    Chunks come while later ones are being made: use up those of one block before the next.
    """
    rows = rng.permutation(curated.parents)
    for start in range(0, len(rows), BLOCK):
        usable = [row for row in rows[start : start + BLOCK] if _has_usable_size(curated.species[row], settings)]
        attrition.add_parents({"parents": len(rows[start : start + BLOCK])})
        attrition.add_parents({"parents_of_another_size": len(rows[start : start + BLOCK]) - len(usable)})
        chunks = [
            [(curated.ids[row], curated.crystal(row)) for row in usable[i : i + CHUNK]]
            for i in range(0, len(usable), CHUNK)
        ]
        processes = workers if len(usable) >= PARALLEL_FROM else 1
        yield parallel_stream(make_templates, chunks, workers=processes, description="templates from known crystals")


def balanced(
    table: IonTable,
    templates: Sequence[Template | None],
    settings: params.Candidates,
    attrition: Attrition,
    prefix: str,
) -> list[Parent]:
    """The templates that are small enough and charge-neutral with one ion an element."""
    symmetric = [template for template in templates if template is not None]
    small = [template for template in symmetric if template.n_atoms <= settings.max_atoms]
    parents = []
    for template in small:
        ions = table.balance(dict(zip(template.elements, template.ratios.tolist(), strict=True)))
        if ions is not None:
            parents.append(Parent(template, ions))
    attrition.add_parents(
        {
            f"{prefix}_without_symmetry": len(templates) - len(symmetric),
            f"{prefix}_with_too_many_atoms": len(symmetric) - len(small),
            f"{prefix}_not_charge_neutral": len(small) - len(parents),
        }
    )
    return parents


def _has_usable_size(species: Sequence[str], settings: params.Candidates) -> bool:
    n_elements = len(set(species))
    return 2 <= n_elements <= settings.max_elements and len(species) <= LARGEST_CELL * settings.max_atoms
