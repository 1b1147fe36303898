"""A read-only HTTP listener on loopback: `/metrics`, `/healthz`, `/readyz`.

h11 speaks HTTP, trio the sockets; one request a connection, small limits, no state. The Host header
must name a loopback address, so that no page in a browser can read it by a rebound name.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import h11
import trio

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.net.endpoints import ByteStream, StreamListener

REQUEST_S: Final = 10.0
REQUEST_BYTES_MAX: Final = 16 * 1024
CONNECTIONS_MAX: Final = 64
"""A scraper and some probes; more is somebody's mistake."""


@dataclass(frozen=True, slots=True)
class Page:
    """A response body."""

    status: int
    content_type: str
    body: bytes


def json_page(status: int, value: dict[str, Any]) -> Page:
    """A small JSON object."""
    return Page(status, "application/json", json.dumps(value).encode() + b"\n")


class HttpServer:
    """Serves a table of paths."""

    def __init__(self, *, clock: Clock, pages: dict[str, Callable[[], Page]]) -> None:
        self._clock = clock
        self._pages = pages
        self._connections = 0
        self.requests = 0
        self.dropped = 0

    async def run(self, listener: StreamListener) -> None:
        """Serve until cancelled or the listener is closed."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await listener.accept()
                except trio.ClosedResourceError:
                    return
                if self._connections >= CONNECTIONS_MAX:
                    self.dropped += 1
                    await stream.aclose()
                else:
                    nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: ByteStream) -> None:
        self._connections += 1
        try:
            with self._clock.move_on_after(REQUEST_S):
                await self._answer(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.dropped += 1
        finally:
            self._connections -= 1
            with trio.CancelScope(shield=True):
                await stream.aclose()

    async def _answer(self, stream: ByteStream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_BYTES_MAX)
        try:
            page = await self._page(connection, stream)
        except h11.RemoteProtocolError as error:
            page = json_page(error.error_status_hint, {"error": "not a request"})
        if page is None:
            return
        self.requests += 1
        headers = [
            ("content-type", page.content_type),
            ("content-length", str(len(page.body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ]
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        response = h11.Response(status_code=page.status, headers=headers)
        await stream.send_all(
            (connection.send(response) or b"")
            + (connection.send(h11.Data(data=page.body)) or b"")
            + (connection.send(h11.EndOfMessage()) or b"")
        )

    async def _page(self, connection: h11.Connection, stream: ByteStream) -> Page | None:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(REQUEST_BYTES_MAX))
            elif isinstance(event, h11.Request):
                return self._respond(event)
            else:
                return None

    def _respond(self, request: h11.Request) -> Page:
        host = dict(request.headers).get(b"host", b"").decode("ascii", errors="replace")
        if not _is_own_host(host):
            return json_page(421, {"error": "this listener is for its own host"})
        if request.method != b"GET":
            return json_page(405, {"error": "read-only"})
        path = request.target.decode("ascii", errors="replace").split("?")[0]
        page = self._pages.get(path)
        if page is None:
            return json_page(404, {"error": "no such page", "pages": list(self._pages)})
        return page()


def _is_own_host(host: str) -> bool:
    """Does a Host header name a loopback address, or localhost?"""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
