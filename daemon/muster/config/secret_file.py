"""The file that holds the cluster secret: read only if nobody else can, written so.

Its text form, and what the secrets are good for: `muster_protocol.crypto.keyring`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from typing import Final

from muster_protocol.crypto.keyring import parse_secrets
from muster_protocol.errors import IdentityError

MODE: Final = 0o600
OTHERS: Final = 0o077
FILE_BYTES_MAX: Final = 16 * 1024
"""Eight secrets of 45 bytes and room for comments."""


def read_secret_file(path: str, *, environ: Mapping[str, str], uid: int) -> tuple[bytes, ...]:
    """The secrets, the primary first.

    systemd's credentials are exempt from the check of owner and mode: it owns them and lets the
    service read them by an access list, which shows as group permission.
    Errors: IdentityError naming the file, never its contents.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise IdentityError(f"secret file {path}: {os.strerror(error.errno or 0)}") from error
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IdentityError(f"secret file {path}: is a directory")
    with open(descriptor, "rb") as handle:  # noqa: PTH123 - what is checked is what is read
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IdentityError(f"secret file {path}: not a regular file")
        if os.path.dirname(path) != environ.get("CREDENTIALS_DIRECTORY"):  # noqa: PTH120
            _check_access(path, status, uid)
        data = handle.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise IdentityError(f"secret file {path}: larger than {FILE_BYTES_MAX} bytes")
    try:
        return parse_secrets(data.decode("ascii", errors="replace"))
    except IdentityError as error:
        raise IdentityError(f"secret file {path}: {error}") from error


def write_secret_file(path: str, text: str) -> None:
    """Make the file, mode 0600; never over an existing one.

    Errors: IdentityError. A file that could not be written whole is removed again.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    except FileExistsError as error:
        raise IdentityError(f"secret file {path}: is there already, and is not replaced") from error
    except OSError as error:
        raise IdentityError(f"secret file {path}: {os.strerror(error.errno or 0)}") from error
    try:
        with open(descriptor, "w") as handle:  # noqa: PTH123
            os.fchmod(descriptor, MODE)  # whatever the umask was
            handle.write(text)
            handle.flush()
            os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
        raise IdentityError(f"secret file {path}: {os.strerror(error.errno or 0)}") from error


def _check_access(path: str, status: os.stat_result, uid: int) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & OTHERS:
        raise IdentityError(
            f"secret file {path}: mode {mode:04o} lets others read it; run: chmod 600 {path}"
        )
    if uid != 0 and status.st_uid not in (0, uid):
        raise IdentityError(f"secret file {path}: belongs to user {status.st_uid}, not to us")
