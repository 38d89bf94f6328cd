"""What a database client is to the download loop: cursor in, page and next cursor out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Cursor = dict[str, Any]  # plain JSON: it stands in the journal


@dataclass(frozen=True)
class Page:
    """One page as it will lie on disk.

    Attributes:
        content: JSON in the shape of the service's answers.
        ids: identifiers of its rows; none may stand in two pages.
        next: where to go on; None = this was the last.
        skipped: rows that the service holds or announces and that could not be had, by reason; one without an id of
            its own is not among `ids`.
    """

    content: Any
    ids: list[str]
    next: Cursor | None
    skipped: Mapping[str, int] = field(default_factory=dict)


class Fetcher(Protocol):
    """A client of one service. Equal remote rows must give equal pages, however often a try failed.

    Attributes:
        format: of the pages, one of `page_formats.FORMATS`.
        query: what is asked, in the service's own words.
        endpoint: base URL.
        client: what talks to the service, with its version.
    """

    format: str
    query: dict[str, Any]
    endpoint: str
    client: str

    def open(self) -> str | None:
        """Make sure that the service answers; its database version, None where it offers none."""
        ...

    def fetch(self, cursor: Cursor | None) -> Page:
        """The page at `cursor`; None = the first."""
        ...

    def total(self, cursor: Cursor | None) -> int | None:
        """Rows in all, as far as it is known, for the progress bar."""
        ...
