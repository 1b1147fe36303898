"""Who may read the cluster secret."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from muster.config.secret_file import read_secret_file, write_secret_file
from muster_protocol.errors import IdentityError

SECRET = bytes(range(32))
TEXT = f"# ours\n{base64.b64encode(SECRET).decode()}\n"


def read(path: Path, *, environ: dict[str, str] | None = None, uid: int | None = None) -> object:
    return read_secret_file(
        str(path), environ=environ or {}, uid=os.geteuid() if uid is None else uid
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_secret_file(str(tmp_path / "secret"), TEXT)
    assert read(tmp_path / "secret") == (SECRET,)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(TEXT)
    path.chmod(0o640)
    with pytest.raises(IdentityError, match="mode 0640 lets others read it; run: chmod 600"):
        read(path)


def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret_file(str(path), TEXT)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        assert read(path, uid=0) == (SECRET,), "root may read it anyway"
        with pytest.raises(IdentityError, match="belongs to user 12345"):
            read(path, uid=999)
    else:
        with pytest.raises(IdentityError, match="belongs to user"):
            read(path, uid=os.geteuid() + 1)


def test_a_credential_of_systemd_may_be_group_readable(tmp_path: Path) -> None:
    """systemd grants access by a list, which shows as mode 0440."""
    path = tmp_path / "muster.secret"
    path.write_text(TEXT)
    path.chmod(0o440)
    assert read(path, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (SECRET,)


@pytest.mark.parametrize("text", ["", "# nothing\n", "not base64!\n", "c2hvcnQ=\n", "\xff\n"])
def test_a_file_without_a_secret_names_the_file_and_never_its_text(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(IdentityError, match=f"secret file {path}: ") as caught:
        read(path)
    assert not text.strip() or text.strip() not in str(caught.value).replace(str(path), "")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(IdentityError, match="not a regular file"):
        read(tmp_path / "fifo")
    with pytest.raises(IdentityError, match="is a directory"):
        read(tmp_path)
    with pytest.raises(IdentityError, match="No such file"):
        read(tmp_path / "none")
    path = tmp_path / "large"
    path.write_text("#" * 20_000)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="larger than"):
        read(path)
