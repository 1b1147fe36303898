"""A daemon that says what a test tells it to, on a real unix socket, in threads.

    with FakeDaemon(path) as daemon:
        daemon.answers("status", a_status())
        daemon.answers("kv.put", HANG_UP, a_kv_result())     # the second attempt gets the answer
        ...
        daemon.requests                                      # what was asked, in order

It speaks through the server half of the session machine, so what a client sends is checked as a
daemon would check it. That the real control server behaves like this one is seen by
`test_against_control.py`, which runs the clients against both.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from muster_protocol.errors import RemoteError
from muster_protocol.session.machine import ServerSession, to_bytes
from muster_protocol.session.messages import (
    PROTOCOL_MAJOR,
    Cancel,
    ClientHello,
    Code,
    End,
    Failure,
    Item,
    Reply,
    Request,
    ServerHello,
)
from muster_protocol.session.methods import (
    METHODS,
    KeyRow,
    KvResult,
    MemberRow,
    MembersResult,
    Problem,
    StatusResult,
)

HANG_UP = object()
"""Close the connection instead of answering."""

SILENCE = object()
"""Never answer."""

NODE = "a" * 32


class Stream(list[Any]):
    """Items, and then the end."""


class FakeDaemon:
    """See the module. `greeting` is a message, HANG_UP, SILENCE or raw bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.greeting: Any = hello()
        self.requests: list[Request] = []
        self.connections = 0
        self._answers: dict[str, list[Any]] = {}
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()

    def answers(self, method: str, *answers: Any) -> None:
        """One answer per request; the last one stays."""
        self._answers[method] = list(answers)

    def params(self, method: str) -> list[Any]:
        """The parameters of each request of a method, typed: what does not fit fails the test."""
        return [
            msgspec.convert(request.params, METHODS[method][0])
            for request in self.requests
            if request.method == method
        ]

    def __enter__(self) -> FakeDaemon:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(16)
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()
        for sock in self._sockets:
            sock.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        session = ServerSession()
        with contextlib.suppress(OSError, _HungUp):
            try:
                while data := sock.recv(65_536):
                    for message in session.receive(data):
                        if isinstance(message, ClientHello):
                            self._say(sock, self.greeting)
                        elif isinstance(message, Request):
                            self.requests.append(message)
                            session.answered(message.id)
                            self._answer(sock, message)
                        else:
                            assert isinstance(message, Cancel)
            except RemoteError as error:
                sock.sendall(to_bytes(Failure(0, Code.FAILED, str(error))))
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def _answer(self, sock: socket.socket, request: Request) -> None:
        answers = self._answers.get(request.method)
        if not answers:
            self._say(sock, Failure(request.id, Code.UNSUPPORTED, f"no {request.method} here"))
            return
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Failure):
            answer = msgspec.structs.replace(answer, id=request.id)
        elif isinstance(answer, Stream):
            for item in answer:
                if item is HANG_UP:
                    raise _HungUp
                self._say(sock, Item(request.id, item))
            answer = End(request.id)
        elif answer is not SILENCE and answer is not HANG_UP:
            answer = Reply(request.id, answer)
        self._say(sock, answer)

    def _say(self, sock: socket.socket, message: Any) -> None:
        if message is HANG_UP:
            raise _HungUp
        if isinstance(message, bytes):
            sock.sendall(message)
        elif message is not SILENCE:
            sock.sendall(to_bytes(message))


class _HungUp(Exception):
    pass


def hello(**changes: Any) -> ServerHello:
    """What a daemon of this version says first."""
    usual = ServerHello(PROTOCOL_MAJOR, 0, NODE, "web1", "0.1.0")
    return msgspec.structs.replace(usual, **changes)


def refusal(code: Code, message: str = "refused", hint: str = "") -> Failure:
    """A request's failure; the daemon puts the request's id in."""
    return Failure(0, code, message, hint)


def a_status(**changes: Any) -> StatusResult:
    """A healthy leader of three."""
    usual = StatusResult(
        verdict="HEALTHY",
        reason="3 of 3 voters in reach, 2 needed",
        problems=[],
        node=NODE,
        name="web1",
        cluster="c" * 32,
        label="lan",
        address="10.0.0.1:7411",
        uptime_s=93_784.0,
        build="0.1.0",
        members_alive=3,
        members_total=3,
        voters_reachable=3,
        voters_total=3,
        is_voter=True,
        role="leader",
        leader=NODE,
        leader_name="web1",
        term=4,
        commit_index=1182,
        applied_index=1182,
        standing="quorate",
        agents_running=6,
        agents_total=6,
        keys=12,
    )
    return msgspec.structs.replace(usual, **changes)


def a_problem() -> Problem:
    return Problem(what="web3 is suspect", next="muster members")


def a_member(number: int, **changes: Any) -> MemberRow:
    """web1 is the node that answers."""
    usual = MemberRow(
        id=f"{number:032x}",
        name=f"web{number}",
        address=f"10.0.0.{number}:7411",
        state="alive",
        role="leader" if number == 1 else "voter",
        incarnation=1,
        state_age_s=600.0,
        seen_age_s=0.0 if number == 1 else 1.23,
        build="0.1.0",
        protocol="1.0",
        is_me=number == 1,
    )
    return msgspec.structs.replace(usual, **changes)


def members(*rows: MemberRow) -> MembersResult:
    return MembersResult(node=NODE, members=list(rows))


def a_key(key: str = "colour", value: bytes = b"blue", revision: int = 17) -> KeyRow:
    return KeyRow(key=key, value=value, revision=revision, created=3, version=2)


def a_kv_result(entry: KeyRow | None = None, **changes: Any) -> KvResult:
    """A committed change or read."""
    usual = KvResult(outcome="committed", revision=17, entry=entry or a_key())
    return msgspec.structs.replace(usual, **changes)
