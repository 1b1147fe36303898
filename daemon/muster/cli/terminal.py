"""Where text goes: a terminal, or not.

Everything that is shown to people leaves through `Terminal`, which takes out what a terminal would
obey: names, reasons and values come from other machines. As it stands at the edge, no view can
forget it. Colour is a second channel only; without it nothing is lost.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

ANSI = {"good": "32", "warn": "33", "bad": "31", "dim": "2", "bold": "1"}
RICH = {"good": "green", "warn": "yellow", "bad": "red", "dim": "dim", "bold": "bold"}
REPLACEMENT = "\ufffd"


class Styled(str):
    """Text with a word for how it is shown: a key of `ANSI`."""

    __slots__ = ("style",)
    style: str

    def __new__(cls, text: str, style: str) -> Styled:
        styled = super().__new__(cls, text)
        styled.style = style
        return styled


class Table:
    """Rows under headings; `right` names the columns that hold numbers."""

    def __init__(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
    ) -> None:
        self.headings = headings
        self.rows = rows
        self.right = right


Block = str | Table
"""What views are made of: a line, or a table."""


def clean(text: str) -> str:
    """`text` without anything that is not shown as itself: control and escape characters, those
    that turn the direction of writing, line ends. Replaced, not removed: that something was there
    is worth seeing."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else REPLACEMENT for c in text)


class Terminal:
    """Standard output and error of one command."""

    def __init__(self, *, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str]) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self.is_terminal = stdout.isatty()
        self.width_fixed = environ.get("COLUMNS", "")
        dumb = environ.get("NO_COLOR", "") != "" or environ.get("TERM") == "dumb"
        self._colour = self.is_terminal and not dumb
        self._colour_errors = stderr.isatty() and not dumb

    def draw(self, blocks: Sequence[Block]) -> None:
        """Show lines and tables."""
        for block in blocks:
            if not isinstance(block, Table):
                self._stdout.write(f"{self._painted(block)}\n")
            elif self.is_terminal:
                self._draw_rich(block)
            else:
                self._draw_plain(block)
        self._stdout.flush()

    def redraw(self, blocks: Sequence[Block]) -> None:
        """Show them in place of what was shown last."""
        if self.is_terminal:
            self._stdout.write("\x1b[H\x1b[2J")
        self.draw(blocks)

    def write_data(self, text: str) -> None:
        """Text for programs (JSON): not cleaned, it escapes by itself."""
        self._stdout.write(text)
        self._stdout.flush()

    def write_bytes(self, data: bytes) -> None:
        """A value as it is."""
        self._stdout.flush()
        self._stdout.buffer.write(data)
        self._stdout.buffer.flush()

    def note(self, text: str) -> None:
        """A line beside the output, for people."""
        self._stderr.write(f"muster: {clean(text)}\n")
        self._stderr.flush()

    def progress(self, text: str) -> None:
        """A line that the next one replaces; nothing where nobody watches. "" takes it away."""
        if self.is_terminal:
            self._stderr.write(f"\r\x1b[2K{clean(text)}")
            self._stderr.flush()

    def ask(self, question: str) -> None:
        """A question; the answer is read by whoever asks."""
        self._stderr.write(clean(question))
        self._stderr.flush()

    def error(self, message: str, hint: str = "") -> None:
        """What went wrong, one line each, and what to do about it."""
        for line in message.splitlines() or ["failed"]:
            head = "\x1b[31mmuster:\x1b[0m" if self._colour_errors else "muster:"
            self._stderr.write(f"{head} {clean(line)}\n")
        if hint:
            self._stderr.write(f"  hint: {clean(hint)}\n")
        self._stderr.flush()

    def _painted(self, text: str) -> str:
        style = text.style if isinstance(text, Styled) else ""
        shown = clean(text)
        return f"\x1b[{ANSI[style]}m{shown}\x1b[0m" if style and self._colour else shown

    def _draw_plain(self, table: Table) -> None:
        """Columns of equal width, two spaces apart: for pipes, `awk` and `column`-less eyes."""
        rows = [[clean(cell) for cell in row] for row in [table.headings, *table.rows]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [
                cell.rjust(width) if heading in table.right else cell.ljust(width)
                for cell, width, heading in zip(row, widths, table.headings, strict=True)
            ]
            self._stdout.write("  ".join(cells).rstrip() + "\n")

    def _draw_rich(self, table: Table) -> None:
        """Columns that give way where the terminal is narrow. rich costs 50 ms, so it is loaded
        only for this."""
        import rich.console
        import rich.table
        import rich.text

        drawn = rich.table.Table(box=None, pad_edge=False, header_style="bold")
        for heading in table.headings:
            drawn.add_column(heading, justify="right" if heading in table.right else "left")
        for row in table.rows:
            drawn.add_row(*(_rich_text(rich.text.Text, cell) for cell in row))
        console = rich.console.Console(
            file=self._stdout,
            force_terminal=self._colour,
            no_color=not self._colour,
            highlight=False,
            width=int(self.width_fixed) if self.width_fixed.isdecimal() else None,
        )
        console.print(drawn)


def _rich_text(kind: Any, cell: str) -> Any:
    """`Text`, not `str`: rich would read `[...]` in a string as markup."""
    return kind(clean(cell), style=RICH[cell.style] if isinstance(cell, Styled) else "")


def standard_terminal(environ: Mapping[str, str]) -> Terminal:
    """This process's. A character that the locale cannot write is replaced, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    return Terminal(stdout=sys.stdout, stderr=sys.stderr, environ=environ)
