"""What only the real TCP listener does."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
import trio

from muster.clock import TrioClock
from muster.net.tcp import TcpStream, dial_tcp, listen_tcp
from muster_protocol.types import Address

LOCALHOST = Address("127.0.0.1", 0)


async def test_connection_above_the_cap_is_turned_away_at_once_and_a_slot_comes_back() -> None:
    listener = await listen_tcp(LOCALHOST, clock=TrioClock(), connections_max=2)
    accepted: list[TcpStream] = []
    with trio.fail_after(5.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept_into, accepted, listener)
            dialled = [await dial_tcp(listener.address) for _ in range(3)]
            with pytest.raises(trio.BrokenResourceError):
                await _ended(dialled[2])
            assert len(accepted) == 2
            await accepted[0].aclose()
            await accepted[0].aclose()
            dialled.append(await dial_tcp(listener.address))
            await dialled[3].send_all(b"x")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(accepted) == 3
            nursery.cancel_scope.cancel()
    statistics = listener.statistics()
    assert (statistics.open, statistics.accepted, statistics.turned_away) == (2, 3, 1)
    for stream in [*dialled, *accepted]:
        await stream.aclose()
    assert listener.statistics().open == 0
    listener.close()


async def _accept_into(accepted: list[TcpStream], listener: Any) -> None:
    while True:
        accepted.append(await listener.accept())


async def _ended(stream: TcpStream) -> None:
    """A connection closed before anything was sent ends cleanly; both mean: turned away."""
    if await stream.receive_some(1) == b"":
        raise trio.BrokenResourceError


async def test_nagle_is_off_on_both_sides() -> None:
    listener = await listen_tcp(LOCALHOST, clock=TrioClock())
    dialler = await dial_tcp(listener.address)
    acceptor = await listener.accept()
    for stream in (dialler, acceptor):
        assert stream._stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await stream.aclose()
    listener.close()


async def test_listener_out_of_files_waits_and_goes_on(autojump_clock: object) -> None:
    listener = await listen_tcp(LOCALHOST, clock=TrioClock())
    real, failures = listener._socket, [errno.EMFILE, errno.ECONNABORTED]

    class Failing:
        def fileno(self) -> int:
            return real.fileno()

        async def accept(self) -> Any:
            if failures:
                raise OSError(failures.pop(0), "injected")
            return await real.accept()

    listener._socket = Failing()  # type: ignore[assignment]
    start = trio.current_time()
    dialler = await dial_tcp(listener.address)
    acceptor = await listener.accept()
    assert trio.current_time() - start == pytest.approx(0.1)
    await dialler.aclose()
    await acceptor.aclose()
    real.close()
