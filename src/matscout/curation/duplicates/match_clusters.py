"""Complete-link clusters: every member of a cluster matches every other one."""

from collections.abc import Iterable, Sequence


def complete_link(keys: Sequence[str], edges: Iterable[tuple[float, str, str]]) -> dict[str, str]:
    """Cluster `keys` so that within a cluster every pair has an edge.

    Matching is not transitive (a slow distortion links opposite ends), so single links would chain
    different materials together. Closest pairs join first; a join that would put an unmatched pair
    into one cluster is refused.

    Args:
        keys: what to cluster.
        edges: (distance, key, key); each unordered pair once.

    Returns:
        key -> smallest key of its cluster.
    """
    ordered = sorted((distance, *sorted((first, second))) for distance, first, second in edges)
    linked = {(first, second) for _, first, second in ordered}
    clusters: dict[str, list[str]] = {key: [key] for key in keys}
    home = {key: key for key in keys}
    for _, first, second in ordered:
        left, right = sorted((home[first], home[second]))
        if left == right:
            continue
        if all((min(a, b), max(a, b)) in linked for a in clusters[left] for b in clusters[right]):
            for key in clusters[right]:
                home[key] = left
            clusters[left] += clusters.pop(right)
    return home
