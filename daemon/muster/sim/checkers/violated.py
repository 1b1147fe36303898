"""An invariant that does not hold."""

from __future__ import annotations


class Violated(Exception):
    """`checker` names the invariant; the text says in one line what was seen."""

    def __init__(self, checker: str, what: str) -> None:
        super().__init__(f"{checker}: {what}")
        self.checker = checker
        self.what = what

    def __reduce__(self) -> tuple[type[Violated], tuple[str, str]]:
        """Between the processes of a bulk run."""
        return Violated, (self.checker, self.what)
