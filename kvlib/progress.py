"""One progress bar for everything that may take longer than two seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm  # type: ignore[import-untyped]

PATIENCE = 2.0  # seconds before a bar appears


@contextmanager
def progress_bar(
    unit: str, total: int | None = None, progress: bool | None = None
) -> Iterator[Callable[[int], object]]:
    """A function that moves a bar by so many units. `progress` None shows it on a terminal only, not in a notebook.

    What a bar prints depends on the machine; a notebook whose outputs are compared must not show one.
    """
    hidden = None if progress is None else not progress
    with tqdm(total=total, unit=unit, disable=hidden, delay=PATIENCE, leave=False) as bar:
        yield bar.update
