"""Things done to a host or a way that may overlap: what is in force while several are.

Faults begin and end at any time. The end of one must not end another of its kind that still goes
on: a node is down until whatever holds it down is over, and a disk is as slow as the newest fault
that has not ended says.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any


class _Held:
    """One value, told apart from its equals."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Overlapping:
    """What holds, by whom it is about."""

    def __init__(self) -> None:
        self._held: dict[Hashable, list[_Held]] = {}

    def begin(
        self, what: Hashable, value: Any, put: Callable[[Any | None], None]
    ) -> Callable[[], None]:
        """Put `value` in force. What is returned ends it, once: then `put` is given the newest
        other value that holds, or None."""
        held, one = self._held.setdefault(what, []), _Held(value)
        held.append(one)
        put(value)

        def end() -> None:
            if one in held:
                held.remove(one)
                put(held[-1].value if held else None)

        return end

    def holds(self, what: Hashable) -> bool:
        """Is anything of this in force?"""
        return bool(self._held.get(what))

    def end_all(self) -> None:
        """Nothing holds any more. Whoever calls this puts things right; what `begin` returned does
        nothing from now on."""
        for held in self._held.values():
            held.clear()
