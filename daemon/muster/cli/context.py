"""What a command is given: the daemon, standard input, and where its answer goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from muster.cli.terminal import Block, Terminal
    from muster.client.blocking import Client

View = Callable[[Any], "Sequence[Block]"]
"""Makes text for people of a result: see `render`."""


class Context:
    """One run of `muster`."""

    def __init__(
        self,
        *,
        terminal: Terminal,
        as_json: bool,
        socket: str | None,
        timeout_s: float | None,
        environ: Mapping[str, str] | None = None,
        stdin: BinaryIO | None = None,
    ) -> None:
        self.terminal = terminal
        self.as_json = as_json
        self.environ = os.environ if environ is None else environ
        self._socket = socket
        self._timeout_s = timeout_s
        self._stdin = stdin
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The daemon; connected when it is asked."""
        if self._client is None:
            from muster.client.blocking import Client
            from muster.client.calls import TIMEOUT_S
            from muster.config.paths import client_socket

            path = self._socket or client_socket(self.environ)
            self._client = Client(path, timeout_s=self._timeout_s or TIMEOUT_S, name="muster")
        return self._client

    def ask(self, method: str, **fields: Any) -> Any:
        """A method's result. Errors: as `Client.call`."""
        return self.client.call(method, **fields)

    def show(self, result: Any, view: View) -> None:
        """The answer: JSON, or the view of it."""
        if self.as_json:
            from muster.cli.jsonout import to_json

            self.terminal.write_data(to_json(result))
        else:
            self.terminal.draw(view(result))

    def show_item(self, item: Any, view: View) -> None:
        """One of many answers: a line of JSON, or the view of it."""
        if self.as_json:
            from muster.cli.jsonout import to_json

            self.terminal.write_data(to_json(item, one_line=True))
        else:
            self.terminal.draw(view(item))

    @property
    def stdin(self) -> BinaryIO:
        """Standard input as bytes."""
        return self._stdin if self._stdin is not None else sys.stdin.buffer

    @property
    def may_prompt(self) -> bool:
        """Only a person at a terminal can be asked."""
        return self.stdin.isatty()

    def close(self) -> None:
        """Close what was opened."""
        if self._client is not None:
            self._client.close()
