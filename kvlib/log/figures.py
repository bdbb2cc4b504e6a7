"""The figures of one start, picked: one value for each name, and a record of which lines were used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvlib.log.parse import ParsedLog, Reading

# With several ranks every rank prints its own value, and the engine goes by the poorest.
_POOREST = {"kv", "blocks", "tokens", "limit", "free_start", "free_loaded", "free_pool", "estimated"}


@dataclass
class Figures:
    """Figures by name. `figures("kv")` is its value in base units, or None if the log does not print it."""

    log: ParsedLog
    used: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _chosen: dict[str, Reading | None] = field(default_factory=dict)

    def reading(self, name: str) -> Reading | None:
        """The reading that counts: the smallest where ranks differ, else the last one printed."""
        if name not in self._chosen:
            self._chosen[name] = self._choose(name)
        return self._chosen[name]

    def _choose(self, name: str) -> Reading | None:
        found = self.log.readings.get(name, ())
        if not found:
            return None
        chosen = min(found, key=lambda item: item.value) if name in _POOREST else found[-1]
        number, text = self.log.line(chosen)
        self.used[number] = text
        self._note_difference(name, found)
        return chosen

    def __call__(self, name: str) -> Any:
        """The value of a figure, or None."""
        found = self.reading(name)
        return found.value if found else None

    def half(self, *names: str) -> float:
        """Half a unit of the last place, added up over figures: by how much their sum may be off."""
        return sum(found.half for name in names if (found := self.reading(name)))

    def line(self, name: str) -> int | None:
        """The line on which a figure stands."""
        found = self.reading(name)
        return self.log.line(found)[0] if found else None

    def span(self, name: str) -> tuple[float, float] | None:
        """Between which values a rounded figure lies."""
        found = self.reading(name)
        return (found.value - found.half, found.value + found.half) if found else None

    def beside(self, name: str, companion: str) -> Any:
        """The figure `name` from the message in which `companion` stands, else the one that counts anyway."""
        anchor = self.reading(companion)
        for item in self.log.readings.get(name, ()) if anchor else ():
            if anchor and item.position == anchor.position:
                return item.value
        return self(name)

    def distinct(self, name: str) -> list[Any]:
        """The different values of a figure, in the order of the log."""
        return list(dict.fromkeys(item.value for item in self.log.readings.get(name, ())))

    def _note_difference(self, name: str, found: tuple[Reading, ...]) -> None:
        """Say so when a figure is printed with values that rounding does not reconcile."""
        numbers = [item for item in found if isinstance(item.value, int | float)]
        if not numbers:
            return
        low = min(numbers, key=lambda item: item.value)
        high = max(numbers, key=lambda item: item.value)
        if high.value - low.value <= low.half + high.half:
            return
        rule = "the smallest counts (one line per rank?)" if name in _POOREST else "the last one counts"
        lines = sorted({self.log.line(low)[0], self.log.line(high)[0]})
        shown = " and ".join(map(str, lines))
        note = f"{name} is printed with different values (lines {shown}): {rule}"
        if note not in self.notes:
            self.notes.append(note)
