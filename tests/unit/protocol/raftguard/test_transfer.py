"""What has arrived of a snapshot."""

from __future__ import annotations

import pytest

from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.transfer import Transfer
from muster_protocol.wire.raft import Configuration, Entry, Manifest, Voter

CONFIGURATION = Configuration((Voter("a" * 32, "c" * 16),))


def manifest(index: int = 9, size: int = 10, digest: bytes = b"d" * 32) -> Manifest:
    previous, last = Entry(b"p", index - 1, 3), Entry(b"l", index, 3)
    return Manifest(previous, last, CONFIGURATION, size, digest)


def test_it_goes_on_where_it_ended() -> None:
    transfer = Transfer()
    assert transfer.begin(manifest()) == 0
    transfer.take(b"0123")
    assert transfer.begin(manifest()) == 4
    assert not transfer.is_whole
    transfer.take(b"456789")
    assert transfer.is_whole
    assert transfer.release() == b"0123456789"


@pytest.mark.parametrize("other", [manifest(10), manifest(size=11), manifest(digest=b"e" * 32)])
def test_another_snapshot_begins_anew(other: Manifest) -> None:
    transfer = Transfer()
    transfer.begin(manifest())
    transfer.take(b"0123")
    assert transfer.begin(other) == 0
    assert transfer.begin(manifest()) == 0


def test_what_was_handed_over_is_not_kept() -> None:
    """So data without its digest is asked for as a whole again."""
    transfer = Transfer()
    transfer.begin(manifest())
    transfer.take(b"0123456789")
    transfer.release()
    assert not transfer.is_whole
    assert transfer.begin(manifest()) == 0


@pytest.mark.parametrize("piece", [b"", b"456789x"])
def test_what_cannot_be_the_rest_is_refused_and_nothing_kept(piece: bytes) -> None:
    transfer = Transfer()
    transfer.begin(manifest())
    transfer.take(b"0123")
    with pytest.raises(RemoteError, match="rest"):
        transfer.take(piece)
    assert transfer.begin(manifest()) == 0


def test_a_snapshot_that_the_log_has_overtaken_is_not_kept() -> None:
    transfer = Transfer()
    transfer.begin(manifest(9))
    transfer.take(b"0123")
    transfer.overtaken(8)
    assert transfer.received_bytes == 4
    transfer.overtaken(9)
    assert transfer.received_bytes == 0
