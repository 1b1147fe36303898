"""Between the engine's dictionaries and our typed frames, both ways.

The names in the dictionaries are pysyncobj's. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from muster_protocol.errors import RemoteError
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.raft import (
    Append,
    Configuration,
    Entry,
    VoteRequest,
    decode_reconfiguration,
    is_reconfiguration,
)

EngineMessage = Mapping[str, Any]

NO_LOG: Final = -1
"""A last log term below every real one: nobody votes for such a candidate."""


_NO_OP: Final = b"\x01"
_REGULAR: Final = b"\x00"
_CALL_HEAD: Final = b"\x00\x92\x00\x91"
_BYTES_START: Final = {0xC4: 6, 0xC5: 7, 0xC6: 9}
"""Where what the call was given begins, by MessagePack's three forms of bytes."""

_CALLS: Final[Decoder[tuple[int, tuple[bytes]]]] = Decoder(tuple[int, tuple[bytes]])


def check_command(command: bytes) -> None:
    """Is this an entry that our engines write? Its no-op, or a call of the one replicated method
    with one batch or one new electorate. Anything else (a VERSION entry, D18; undecodable bytes)
    would stop the engine, and again at every restart.

    Errors: RemoteError("raft-append", "garbage").
    """
    if command == _NO_OP:
        return
    if command[:1] == _REGULAR and _CALLS.decode(command[1:])[0] == 0:
        configuration_of(command)
        return
    raise RemoteError("raft-append", "an entry that no engine of ours writes")


def batch_of(command: bytes) -> bytes | None:
    """The commands that an entry holds; None if it holds none. Errors: RemoteError("garbage")."""
    data = None if command == _NO_OP else _CALLS.decode(command[1:])[1][0]
    return None if data is None or is_reconfiguration(data) else data


def call_of(data: bytes) -> bytes:
    """The entry whose call was given `data`, as an engine writes it."""
    return _REGULAR + encode((0, (data,)))


def configuration_of(command: bytes) -> Configuration | None:
    """The electorate that an entry makes, None if it makes none. Errors: RemoteError("garbage")."""
    if not command.startswith(_CALL_HEAD):
        return None
    start = _BYTES_START.get(command[len(_CALL_HEAD)], 0)
    if not start or not is_reconfiguration(command[start : start + 2]):
        return None  # by far the most: batches, which need not be decoded for this
    return decode_reconfiguration(_CALLS.decode(command[1:])[1][0])


def append_of(message: EngineMessage) -> Append:
    """What a leader's engine wants to send. Entries in pieces are unreachable: every entry is
    smaller than the engine's batch size."""
    assert "transmission" not in message, "an entry reached the engine's batch size"
    return Append(
        term=message["term"],
        commit_index=message["commit_index"],
        previous_index=message["prevLogIdx"],
        previous_term=message["prevLogTerm"],
        entries=tuple(Entry(*entry) for entry in message["entries"]),
    )


def vote_request_of(message: EngineMessage) -> VoteRequest:
    """What a candidate's engine wants to send."""
    return VoteRequest(message["term"], message["last_log_index"], message["last_log_term"])


def engine_vote_request(frame: VoteRequest) -> EngineMessage:
    """A candidate's request, for a voter's engine."""
    return {
        "type": "request_vote",
        "term": frame.term,
        "last_log_index": frame.last_index,
        "last_log_term": frame.last_term,
    }


def engine_step_up(term: int) -> EngineMessage:
    """Makes an engine adopt a term as follower without voting: a request that it must refuse."""
    return engine_vote_request(VoteRequest(term, last_index=0, last_term=NO_LOG))


def engine_ack(*, next_index: int, success: bool, reset: bool) -> EngineMessage:
    """A follower's answer, for a leader's engine."""
    return {
        "type": "next_node_idx",
        "next_node_idx": next_index,
        "reset": reset,
        "success": success,
    }
