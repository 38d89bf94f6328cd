"""Workers that hold what they need: a function, with all it carries, comes to each of them once."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from matscout.engine.ray_engine import MAX_RETRIES, connect, result_of
from matscout.engine.settings import RAY, Switch
from matscout.engine.worker_tasks import enter_worker
from matscout.progress import progress

Item = TypeVar("Item")


def held_for_each(
    function: Callable[[Item], None],
    items: Sequence[Item],
    *,
    workers: int,
    description: str,
    unit: str,
    gpus: float = 0.0,
) -> None:
    """Call `function` for each item, in any order: here, or with `MATSCOUT_ENGINE=ray` on actors that hold it.

    For functions that carry much (a loaded ensemble) and keep their results themselves, whole or not at all.

    Args:
        function: picklable; its arrays lie once in a machine's shared memory, mapped read-only by all actors there.
        items: what to call it with; picklable.
        workers: actors.
        description: of the progress bar.
        unit: of the items, on the bar.
        gpus: graphics cards of an actor; Ray shows it only those.

    Raises:
        WorkerError: an item ended its actor each time that it was tried.
    """
    if Switch.read().engine == RAY and items:
        done = _on_actors(function, items, workers=workers, gpus=gpus)
        for _ in progress(done, description=description, total=len(items), unit=unit):
            pass
    else:
        for item in progress(items, description=description, unit=unit):
            function(item)


class _Holder:
    def __init__(self, function: Callable[[Any], None]) -> None:
        enter_worker()
        self.function = function

    def ready(self) -> None:
        """Answered as soon as the actor has a place and holds the function."""

    def call(self, item: Any) -> None:
        self.function(item)


def _on_actors(function: Callable[[Item], None], items: Sequence[Item], *, workers: int, gpus: float) -> Iterator[Item]:
    """Each item once it is done. Ray puts an actor that died elsewhere and gives it its item again."""
    ray = connect(workers)
    held = ray.put(function)
    kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=MAX_RETRIES)(_Holder)
    actors = [kind.remote(held) for _ in range(min(workers, len(items)))]
    waiting, doing = deque(items), dict[Any, Item]()
    running = {actor.ready.remote(): actor for actor in actors}  # one without a place takes no item
    try:
        while waiting or doing:
            for reference in ray.wait(list(running))[0]:
                actor = running.pop(reference)
                result_of(ray, reference)
                if reference in doing:
                    yield doing.pop(reference)
                if waiting:
                    item = waiting.popleft()
                    begun = actor.call.remote(item)
                    running[begun], doing[begun] = actor, item
    finally:
        ray.shutdown()  # ends the actors
