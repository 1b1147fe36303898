"""Where things are when nobody says otherwise.

Alone in a small module because the CLI needs the socket's place at every start, and nothing else
of the configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

SYSTEM_SOCKET = "/run/muster/muster.sock"
SYSTEM_CONFIG = "/etc/muster/muster.toml"
SYSTEM_STATE = "/var/lib/muster"
CREDENTIAL_NAME = "muster.secret"
"""The systemd credential that holds the cluster secret (`LoadCredential=` in the unit)."""


def client_socket(environ: Mapping[str, str]) -> str:
    """Where a client looks: $MUSTER_SOCKET, else a daemon of the user's own, else the system's."""
    if explicit := environ.get("MUSTER_SOCKET"):
        return explicit
    own = _own_socket(environ)
    return own if own and os.path.exists(own) else SYSTEM_SOCKET  # noqa: PTH110 - pathlib: +4 ms


def daemon_socket(environ: Mapping[str, str], *, uid: int) -> str:
    """Where a daemon listens: systemd's runtime directory, the system's place for root, else the
    user's own. Without any of them (a user without a session) it is below the state directory."""
    if runtime := first_directory(environ, "RUNTIME_DIRECTORY"):
        return f"{runtime}/muster.sock"
    if uid == 0:
        return SYSTEM_SOCKET
    return _own_socket(environ) or f"{state_directory(environ, uid=uid)}/muster.sock"


def state_directory(environ: Mapping[str, str], *, uid: int) -> str:
    """systemd's state directory, the system's for root, else the user's own (XDG)."""
    if state := first_directory(environ, "STATE_DIRECTORY"):
        return state
    if uid == 0:
        return SYSTEM_STATE
    base = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME', '')}/.local/state"
    return f"{base}/muster"


def config_file(environ: Mapping[str, str], *, uid: int) -> str:
    """The file that is read if it is there and no other was named."""
    if uid == 0 or "STATE_DIRECTORY" in environ:
        return SYSTEM_CONFIG
    base = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    return f"{base}/muster/muster.toml"


def credential(environ: Mapping[str, str]) -> str:
    """The cluster secret as systemd handed it over, or ""."""
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    path = f"{directory}/{CREDENTIAL_NAME}"
    return path if directory and os.path.exists(path) else ""  # noqa: PTH110


def first_directory(environ: Mapping[str, str], name: str) -> str:
    """systemd separates several directories of one kind with colons."""
    return environ.get(name, "").partition(":")[0]


def _own_socket(environ: Mapping[str, str]) -> str:
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return f"{runtime}/muster/muster.sock" if runtime else ""
