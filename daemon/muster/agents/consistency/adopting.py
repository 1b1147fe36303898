"""Streams that others open are served by tasks of whoever answers them.

Else they would be tasks of the listener: they would outlive the agent whose state they use, and a
bug in one would end the node instead of the agent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from muster_protocol.errors import RemoteError, first_of

if TYPE_CHECKING:
    from muster.net.peers import PeerConnection


async def adopt(
    nursery: trio.Nursery | None,
    serve: Callable[[PeerConnection], Awaitable[None]],
    connection: PeerConnection,
    *,
    cause: str,
) -> None:
    """Serve an accepted stream as a task of `nursery`, with which it ends; what goes wrong in it
    does so there. Returns when it is over. `nursery` None: it has ended already.

    Errors: RemoteError(cause).
    """
    done, refused = trio.Event(), list[RemoteError]()

    async def task() -> None:
        try:
            await serve(connection)
        except* RemoteError as group:
            refused.append(RemoteError(cause, str(first_of(group))))
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the other side went away
        finally:
            done.set()

    if nursery is None:
        return
    nursery.start_soon(task)
    await done.wait()
    if refused:
        raise refused[0]
