"""The keyring, its file, and what is derived from a secret."""

from __future__ import annotations

import pytest

from muster_protocol.crypto.derive import KEY_ID, PACKET_KEY, derive
from muster_protocol.crypto.insecure import InsecureKeys
from muster_protocol.crypto.keyring import KEYS_MAX, Keyring, format_secrets, parse_secrets
from muster_protocol.errors import IdentityError, UsageError

ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))


def ring(*secrets: bytes, label: str = "lab") -> Keyring:
    return Keyring(secrets, label=label)


def test_first_secret_is_the_primary() -> None:
    assert ring(ONE, TWO).primary.secret == ONE


def test_rotation_goes_install_use_remove() -> None:
    old, new = ring(ONE), ring(TWO).primary.id
    installed = old.install(TWO)
    assert installed.primary.secret == ONE
    used = installed.use(new)
    assert [key.secret for key in used.keys] == [TWO, ONE]
    removed = used.remove(old.primary.id)
    assert [key.secret for key in removed.keys] == [TWO]
    assert [key.secret for key in old.keys] == [ONE], "each step is a new value"


def test_installing_twice_changes_nothing() -> None:
    old = ring(ONE, TWO)
    assert old.install(TWO) is old


def test_primary_is_not_removed() -> None:
    both = ring(ONE, TWO)
    with pytest.raises(UsageError, match="is the primary"):
        both.remove(both.primary.id)


@pytest.mark.parametrize("step", ["use", "remove"])
def test_unknown_key_is_named_with_those_that_are_there(step: str) -> None:
    both = ring(ONE, TWO)
    with pytest.raises(UsageError, match=both.primary.id):
        getattr(both, step)("abcdef")


def test_ring_refuses_none_too_many_and_wrong_sizes() -> None:
    with pytest.raises(IdentityError, match="not 0"):
        ring()
    with pytest.raises(IdentityError, match=f"not {KEYS_MAX + 1}"):
        ring(*(bytes([number]) * 32 for number in range(KEYS_MAX + 1)))
    with pytest.raises(IdentityError, match="has 32 bytes, not 31"):
        ring(bytes(31))
    with pytest.raises(IdentityError, match="same key id"):
        ring(ONE, ONE)


def test_find_takes_the_id_of_a_header() -> None:
    both = ring(ONE, TWO)
    assert both.find(bytes.fromhex(both.keys[1].id)) is both.keys[1]
    assert both.find(b"\0\0\0") is None


def test_no_repr_shows_a_secret() -> None:
    shown = repr(ring(ONE)) + repr(ring(ONE).primary)
    assert ring(ONE).primary.id in shown
    assert "x01" not in shown
    assert "AQEB" not in shown


def test_key_id_depends_on_the_label() -> None:
    assert ring(ONE, label="a").primary.id != ring(ONE, label="b").primary.id


def test_derived_keys_are_apart_by_purpose_label_salt_and_extra() -> None:
    keys = {
        derive(PACKET_KEY, ONE, "a", salt=b"s", extra=b"n"),
        derive(PACKET_KEY, ONE, "a", salt=b"t", extra=b"n"),
        derive(PACKET_KEY, ONE, "a", salt=b"s", extra=b"m"),
        derive(PACKET_KEY, ONE, "b", salt=b"s", extra=b"n"),
        derive(PACKET_KEY, TWO, "a", salt=b"s", extra=b"n"),
        derive(KEY_ID, ONE, "a", salt=b"s", extra=b"n"),
    }
    assert len(keys) == 6


def test_derivation_is_the_one_that_is_written_down() -> None:
    """HKDF-SHA256 by hand: extract, then one block of expand."""
    import hashlib
    import hmac

    extracted = hmac.digest(b"salt", ONE, hashlib.sha256)
    info = b"muster packet key\0lab\0node"
    expected = hmac.digest(extracted, info + b"\x01", hashlib.sha256)
    assert derive(PACKET_KEY, ONE, "lab", salt=b"salt", extra=b"node") == expected


def test_secret_file_round_trips() -> None:
    text = format_secrets([TWO, ONE], comment="rotated\non Monday")
    assert text.startswith("# rotated\n# on Monday\n")
    assert parse_secrets(text) == (TWO, ONE)


def test_secret_file_allows_comments_and_blank_lines() -> None:
    one = format_secrets([ONE]).strip()
    assert parse_secrets(f"\n# a comment\n  {one}  # the primary\r\n\n") == (ONE,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "muster keys generate"),
        ("# nothing\n", "muster keys generate"),
        ("# c\nnot base64!\n", "line 2: not a base64"),
        ("AAAA\n", "line 1: a cluster secret has 32 bytes, this has 3"),
        (format_secrets([ONE]) + "\n" + format_secrets([ONE]), "line 3: the same secret as line 1"),
        ("é" * 44, "line 1: not a base64"),
    ],
)
def test_secret_file_error_names_the_line_and_shows_nothing(text: str, message: str) -> None:
    with pytest.raises(IdentityError, match=message) as caught:
        parse_secrets(text)
    for line in text.splitlines():
        assert not line or line.startswith("#") or line not in str(caught.value)


def test_insecure_keys_tell_labels_apart() -> None:
    keys = InsecureKeys(label="a")
    assert keys.find(bytes.fromhex(keys.id)) is keys
    assert InsecureKeys(label="b").find(bytes.fromhex(keys.id)) is None
