"""Securing a stream between nodes: TLS 1.3 with both sides verified, or nothing.

The certificates come from the keyring (`crypto.certificates`): every secret in it is trusted, the
primary issues our own. A secret cannot be taken out of an `SSLContext`, so a change of the ring
builds new contexts; streams whose peer came under a removed secret are closed by `PeerStreams`.

TLS is spoken here over OpenSSL's memory buffers and not by `trio.SSLStream`, for one reason: when
a handshake fails, trio (0.35) raises without sending the alert that OpenSSL has written, so the
other side sees a lost connection where it should be told that its secret is the wrong one. In
TLS 1.3 the client finishes before the server has refused it, so it reads that alert where it
expects the first answer: `explain` tells what a broken stream says about its cause.

`load_cert_chain` wants a path: the key goes through an anonymous file in memory and is never on a
disk. No session tickets: a resumed session would outlive the secret that it was verified with.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import trio

from muster.locks import take
from muster_protocol.crypto.certificates import (
    LEAF_KEY_BYTES,
    LEAF_SERIAL_BYTES,
    Leaf,
    authority_pem,
    issue_leaf,
    peer_identity,
)
from muster_protocol.crypto.keyring import KeyId, Keyring
from muster_protocol.errors import RemoteError
from muster_protocol.types import Address, NodeId

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.entropy import Entropy
    from muster.net.endpoints import ByteStream

HANDSHAKE_S: Final = 5.0
"""From the first byte to a verified peer. One takes 4 ms of CPU and two round trips; the rest is
for a loaded host."""

CLOSE_S: Final = 0.1
"""For handing over the closing alert; a peer that does not read gets none."""

RECORD_BYTES: Final = 64 * 1024
"""Encrypted and sent at a time, so that a large frame does not exist twice."""


@dataclass(frozen=True, slots=True)
class SecuredStream:
    """A stream, and who is at its other end: None where only its own word says so."""

    stream: ByteStream
    node_id: NodeId | None
    key_id: KeyId | None


class StreamSecurity(Protocol):
    """What `PeerStreams` puts around every stream."""

    async def secure(self, stream: ByteStream, *, is_server: bool) -> SecuredStream:
        """Errors: RemoteError wrong-secret, certificate, not-tls, timeout or broken. The caller
        closes `stream`."""


class PlainSecurity:
    """None: for `--insecure`, and for the simulator, whose network has no eavesdroppers."""

    async def secure(self, stream: ByteStream, *, is_server: bool) -> SecuredStream:  # noqa: ARG002
        return SecuredStream(stream, None, None)


class TlsSecurity:
    """Mutual TLS 1.3 under a keyring."""

    def __init__(
        self, keyring: Keyring, *, node_id: NodeId, clock: Clock, entropy: Entropy
    ) -> None:
        self._node_id = node_id
        self._clock = clock
        self._entropy = entropy
        self.replace_keyring(keyring)

    def replace_keyring(self, keyring: Keyring) -> None:
        """Trust and use another ring from the next handshake on; issues a new leaf."""
        leaf = issue_leaf(
            keyring.primary,
            node_id=self._node_id,
            key_seed=self._entropy.token_bytes(LEAF_KEY_BYTES),
            serial=int.from_bytes(self._entropy.token_bytes(LEAF_SERIAL_BYTES), "big") | 1,
        )
        authorities = [authority_pem(key) for key in keyring.keys]
        self._label = keyring.label
        self._server = make_context(leaf, authorities, is_server=True)
        self._client = make_context(leaf, authorities, is_server=False)

    async def secure(self, stream: ByteStream, *, is_server: bool) -> SecuredStream:
        context = self._server if is_server else self._client
        tls = TlsStream(stream, context, is_server=is_server, clock=self._clock)
        with self._clock.move_on_after(HANDSHAKE_S) as scope:
            try:
                der = await tls.handshake()
            except trio.BrokenResourceError as error:
                raise explain(error) from error
        if scope.cancelled_caught:
            raise RemoteError("timeout", f"no TLS handshake within {HANDSHAKE_S:.0f} s")
        peer = peer_identity(der, label=self._label)
        return SecuredStream(tls, peer.node_id, peer.key_id)


class TlsStream:
    """A `ByteStream` inside TLS. One task may send while another receives."""

    def __init__(
        self, stream: ByteStream, context: ssl.SSLContext, *, is_server: bool, clock: Clock
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server)
        self._send_lock = trio.Lock()
        self._is_closed = False

    @property
    def remote(self) -> Address:
        return self._stream.remote

    async def handshake(self) -> bytes:
        """Shake hands; the peer's verified certificate (DER).

        Errors: trio.BrokenResourceError; ours, if it is our refusal, was told to the peer.
        """
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError as error:
                with contextlib.suppress(trio.BrokenResourceError):
                    await self._flush()  # the alert that says why
                raise trio.BrokenResourceError("TLS handshake failed") from error
        await self._flush()
        der = self._tls.getpeercert(binary_form=True)
        assert der is not None
        return der

    async def send_all(self, data: bytes) -> None:
        view = memoryview(data)
        await take(self._send_lock)
        try:
            self._check_open()
            self._encrypt(view[:RECORD_BYTES])
            await self._stream.send_all(self._outgoing.read())
            while view := view[RECORD_BYTES:]:
                self._check_open()
                self._encrypt(view[:RECORD_BYTES])
                await self._flush()
        finally:
            self._send_lock.release()

    def send_nowait(self, data: bytes) -> bool:
        self._check_open()
        self._encrypt(memoryview(data))
        return self._stream.send_nowait(self._outgoing.read())

    def _encrypt(self, data: memoryview) -> None:
        if data:
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError("TLS stream broken") from error

    async def receive_some(self, bytes_max: int) -> bytes:
        """As `ByteStream`. It never sends, so it never waits for a peer that does not read: two
        peers that send to each other would wait for ever. What TLS wants to say to what came (to
        a key update) leaves with the next `send_all`, which is when RFC 8446 (4.6.3) wants it."""
        while True:
            self._check_open()
            if self._has_read_all:
                await self._feed()
            try:
                return self._tls.read(bytes_max)
            except ssl.SSLWantReadError:
                await self._feed()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise trio.BrokenResourceError("TLS stream broken") from error

    async def aclose(self) -> None:
        if self._is_closed:
            await self._stream.aclose()
            return
        self._is_closed = True
        try:
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            pass  # somebody is in the middle of a record: nothing can be said any more
        else:
            try:
                with self._clock.move_on_after(CLOSE_S):
                    await self._say_goodbye()
            finally:
                self._send_lock.release()
        finally:
            await self._stream.aclose()

    @property
    def _has_read_all(self) -> bool:
        """Would reading find nothing? Nearly always, and an exception that says so costs more."""
        incoming = self._incoming
        return not (incoming.pending or incoming.eof or self._tls.pending())

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("TLS stream closed")

    async def _say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # it wants the peer's goodbye as well: no waiting
            self._tls.unwrap()
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._flush()

    async def _feed(self) -> None:
        data = await self._stream.receive_some(RECORD_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        """Send what TLS has written."""
        if data := self._outgoing.read():
            await self._stream.send_all(data)


def make_context(leaf: Leaf, authorities: Iterable[bytes], *, is_server: bool) -> ssl.SSLContext:
    """TLS 1.3 only; the other side must show a certificate of one of `authorities` (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a node is its id, not where it is: `peer_identity`
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if is_server:
        context.num_tickets = 0
    context.load_verify_locations(cadata=b"".join(authorities).decode())
    fd = os.memfd_create("muster-leaf", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb") as file:
        file.write(leaf.private_key_pem + leaf.certificate_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    return context


_CAUSES: Final = {
    "TLSV1_ALERT_UNKNOWN_CA": "wrong-secret",
    "TLSV1_ALERT_DECRYPT_ERROR": "wrong-secret",
    "SSLV3_ALERT_BAD_CERTIFICATE": "wrong-secret",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "wrong-secret",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "certificate",
}
"""OpenSSL's reasons for what is no mere breach of the protocol."""

_MESSAGES: Final = {
    "wrong-secret": "the peer says that we hold another cluster secret",
    "certificate": "no certificate was shown",
    "not-tls": "the peer does not speak TLS 1.3",
}


def explain(error: BaseException) -> RemoteError:
    """What a broken stream says about why it broke, as a counted cause."""
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, ssl.SSLError):
        reason = reason.__cause__
    if reason is None or isinstance(reason, ssl.SSLEOFError):
        return RemoteError("broken", "the connection broke before the peer was known")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return RemoteError("wrong-secret", "the peer's certificate is not from our cluster secret")
    cause = _CAUSES.get(reason.reason or "", "not-tls")
    return RemoteError(cause, f"{_MESSAGES[cause]} ({reason.reason})")
