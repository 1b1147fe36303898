"""Defaults, file, environment and flags become one checked `Config`, with the origin of each value.

A later layer wins: default < file < `MUSTER_<SECTION>_<KEY>` < flag. Every value is converted and
checked by itself, so that one run tells everything that is wrong and where. Then what was left
empty is worked out, and then what only shows when values are seen together is checked.

What is unknown is an error, in the environment too where a name begins like one of ours
(`MUSTER_NODE_...`); other `MUSTER_...` names are left alone, since Kubernetes makes such for every
service.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from muster.config import paths
from muster.config.compose import membership_config
from muster.config.lines import key_lines
from muster.config.schema import SECTIONS, Config, Section
from muster_protocol.errors import ConfigError, UsageError
from muster_protocol.types import parse_address

FILE_BYTES_MAX: Final = 1024 * 1024
"""A configuration of more than that is some other file."""

DEFAULT: Final = "default"
_HINTS: Final[Mapping[str, str]] = {
    "node.name": "letters, digits, '.', '_' and '-', at most 63, beginning with one of the former",
    "cluster.label": "letters, digits, '.', '_' and '-', 1 to 63",
    "control.group": "the name of a group of this host",
    "node.bind": "an IP address of this host; the port has its own key",
    "http.bind": "127.0.0.1 or ::1; put a reverse proxy in front to publish it",
    "cluster.join": "a list of IP addresses with optional ports; names are not resolved here",
}
_WORDS: Final[Mapping[str, str]] = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
    "length": "a length",
}


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong. `where` is file:line, `environment NAME`, `flag KEY` or a file."""

    where: str
    what: str
    key: str = ""
    hint: str = ""

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.key, self.what) if part)
        return f"{head}; {self.hint}" if self.hint else head


class ConfigInvalid(ConfigError):
    """Everything that is wrong with a configuration, one line each."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Item(msgspec.Struct, frozen=True):
    """One effective value. `origin`: default (and how it was worked out), file:line, environment
    NAME, or flag."""

    key: str
    value: Any
    origin: str


class Loaded(msgspec.Struct, frozen=True):
    """A checked configuration. `path` is the file that was read, "" for none."""

    config: Config
    path: str
    items: tuple[Item, ...]

    def origin(self, key: str) -> str:
        """Where the value of `section.name` came from."""
        return next(item.origin for item in self.items if item.key == key)


class Host(msgspec.Struct, frozen=True):
    """What the configuration depends on beside its layers."""

    environ: Mapping[str, str]
    uid: int
    name: str

    @classmethod
    def here(cls) -> Host:
        """This process on this host."""
        return cls(os.environ, os.geteuid(), os.uname().nodename)


def load_config(
    path: str | Path | None = None,
    *,
    flags: Mapping[str, Any] = types.MappingProxyType({}),
    host: Host | None = None,
) -> Loaded:
    """The effective configuration. `flags`: `section.key` -> text or value.

    `path` None means $MUSTER_CONFIG, or the default place if there is a file.
    Errors: ConfigInvalid with all that is wrong.
    """
    host = host or Host.here()
    layers = _Layers()
    file = str(path or host.environ.get("MUSTER_CONFIG", ""))
    if not file:
        default = paths.config_file(host.environ, uid=host.uid)
        file = default if Path(default).exists() else ""
    if file:
        _read_file(file, layers)
    _read_environment(host.environ, layers)
    for key, value in flags.items():
        layers.set(key, value, f"flag {key}", textual=isinstance(value, str))
    layers.raise_faults()
    _work_out(layers, host)
    config = layers.config()
    _check(config, layers)
    layers.raise_faults()
    return Loaded(config, file, _items(config, layers))


class _Layers:
    """Values and origins as they pile up, and what was wrong with them."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.types = _key_types()

    def fault(self, key: str, what: str, hint: str = "") -> None:
        """Something about an effective value, told where that value stands."""
        self.faults.append(Fault(self.origins.get(key, DEFAULT), what, key, hint))

    def set(self, key: str, raw: Any, origin: str, *, textual: bool = False) -> None:
        """Take `raw`, converted; `textual` values come from text and are read leniently."""
        kind = self.types.get(key)
        if kind is None:
            self.faults.append(Fault(origin, "there is no such setting", key, _suggest(key)))
            return
        try:
            self.values[key] = _convert(raw, kind, textual=textual)
            self.origins[key] = origin
        except msgspec.ValidationError as error:
            hint = _HINTS.get(key, "") or _choices(raw, kind)
            self.faults.append(Fault(origin, _in_words(error, raw), key, hint))

    def work_out(self, key: str, value: Any, how: str) -> None:
        """A value that was left empty."""
        self.values[key] = value
        self.origins[key] = self.origins.get(key, f"{DEFAULT} ({how})")

    def get(self, key: str) -> Any:
        section, _, name = key.partition(".")
        return self.values.get(key, getattr(SECTIONS[section](), name))

    def config(self) -> Config:
        """All sections; what no layer sets is the schema's default."""
        sections: dict[str, Section] = {}
        for section, kind in SECTIONS.items():
            names = [name for name in kind.__struct_fields__ if f"{section}.{name}" in self.values]
            sections[section] = kind(**{name: self.values[f"{section}.{name}"] for name in names})
        return Config(**sections)  # type: ignore[arg-type]  # each is of its own kind

    def raise_faults(self) -> None:
        if self.faults:
            raise ConfigInvalid(self.faults)


# --- the layers ---------------------------------------------------------------------------------


def _read_file(file: str, layers: _Layers) -> None:
    """Errors: ConfigInvalid where nothing of it can be read; else faults are collected."""
    try:
        with Path(file).open("rb") as handle:
            data = handle.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ConfigInvalid([Fault(file, f"larger than {FILE_BYTES_MAX} bytes")])
        text = data.decode()
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigInvalid([Fault(file, f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigInvalid([Fault(f"{file}:{line}", "not UTF-8 text")]) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid([_syntax_fault(file, text, error)]) from error
    lines = key_lines(text)
    for section, table in tables.items():
        origin = f"{file}:{lines[section]}" if section in lines else file
        if section not in SECTIONS:
            what = "there is no such section" if isinstance(table, dict) else "outside any section"
            layers.faults.append(Fault(origin, what, section, _suggest(section)))
        elif not isinstance(table, dict):
            layers.faults.append(Fault(origin, f"is a section: write [{section}]", section))
        else:
            for name, raw in table.items():
                key = f"{section}.{name}"
                layers.set(key, raw, f"{file}:{lines.get(key, lines.get(section, 1))}")


def _syntax_fault(file: str, text: str, error: Exception) -> Fault:
    """tomllib ends its message with "(at line 3, column 7)" or "(at end of document)"."""
    what, _, place = str(error).partition(" (at ")
    line = re.match(r"line (\d+)", place)
    number = line[1] if line else len(text.splitlines()) or 1
    return Fault(f"{file}:{number}", f"not valid TOML: {what[:1].lower()}{what[1:]}")


def _read_environment(environ: Mapping[str, str], layers: _Layers) -> None:
    names = {f"MUSTER_{key.upper().replace('.', '_')}": key for key in layers.types}
    names["MUSTER_SOCKET"] = "control.socket"
    prefixes = tuple(f"MUSTER_{section.upper()}_" for section in SECTIONS)
    for name, text in sorted(environ.items()):
        origin = f"environment {name}"
        if name in names:
            layers.set(names[name], text, origin, textual=True)
        elif name.startswith(prefixes):
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else ""
            layers.faults.append(Fault(origin, "there is no such setting", hint=hint))


# --- single values ------------------------------------------------------------------------------


def _key_types() -> dict[str, Any]:
    """`section.key` -> its type with bounds."""
    return {
        f"{section}.{name}": kind
        for section, struct in SECTIONS.items()
        for name, kind in typing.get_type_hints(struct, include_extras=True).items()
    }


def _convert(raw: Any, kind: Any, *, textual: bool) -> Any:
    """Errors: msgspec.ValidationError."""
    if textual and _is_list(kind):
        raw = [part for part in re.split(r"[,\s]+", raw) if part]
    value = msgspec.convert(raw, kind, strict=not textual)
    if isinstance(value, float) and not math.isfinite(value):
        raise msgspec.ValidationError("Expected a finite number")
    return value


def _is_list(kind: Any) -> bool:
    return typing.get_origin(_bare(kind)) is tuple


def _bare(kind: Any) -> Any:
    """The type without its bounds."""
    return typing.get_args(kind)[0] if hasattr(kind, "__metadata__") else kind


def _in_words(error: msgspec.ValidationError, raw: Any) -> str:
    """msgspec's message for people: no Python types, no JSON paths, and the value itself."""
    message = str(error).partition(" - at `$")[0]
    message = re.sub(r"`(\w+)( \| null)?`", lambda m: _WORDS.get(m[1], m[1]), message)
    shown = repr(raw) if len(repr(raw)) < 60 else f"{repr(raw)[:57]}…"
    if "regex" in message:
        return f"{shown} is not allowed"
    if message.startswith("Invalid enum"):
        return f"{shown} is not one of the choices"
    message = re.sub(r", got .*$", "", message)
    return f"{message[:1].lower()}{message[1:]}, not {shown}"


def _choices(raw: Any, kind: Any) -> str:
    """For a setting with a few words to choose from: which, and the likely one."""
    bare = _bare(kind)
    if typing.get_origin(bare) is not typing.Literal:
        return ""
    choices = typing.get_args(bare)
    close = difflib.get_close_matches(str(raw), choices, n=1)
    return f"did you mean {close[0]!r}?" if close else f"one of {', '.join(choices)}"


def _suggest(key: str) -> str:
    """The setting that was probably meant."""
    known = _key_types()
    section, _, name = key.rpartition(".")
    siblings = [k.partition(".")[2] for k in known if section and k.startswith(f"{section}.")]
    if close := difflib.get_close_matches(name, siblings, n=1):
        return f"did you mean {close[0]}?"
    if elsewhere := [k for k in known if k.partition(".")[2] == name]:
        return f"it belongs under [{elsewhere[0].partition('.')[0]}]"
    if not section and (close := difflib.get_close_matches(name, SECTIONS, n=1)):
        return f"did you mean [{close[0]}]?"
    if close := difflib.get_close_matches(name, [k.partition(".")[2] for k in known], n=1):
        section = next(k for k in known if k.endswith(f".{close[0]}")).partition(".")[0]
        return f"did you mean {close[0]} under [{section}]?"
    return "see configs/example.toml for all of them"


# --- all of them together -----------------------------------------------------------------------


def _work_out(layers: _Layers, host: Host) -> None:
    """Replace what was left empty by what it means on this host."""
    environ, uid = host.environ, host.uid
    if not layers.get("node.name"):
        layers.set("node.name", host.name.partition(".")[0], f"{DEFAULT} (host name)")
    if not layers.get("node.state_dir"):
        state = paths.state_directory(environ, uid=uid)
        layers.work_out("node.state_dir", state, "this user's place")
    if not layers.get("control.socket"):
        layers.work_out(
            "control.socket", paths.daemon_socket(environ, uid=uid), "this user's place"
        )
    if not layers.get("cluster.secret_file") and (secret := paths.credential(environ)):
        layers.work_out("cluster.secret_file", secret, "systemd credential")
    if not layers.get("node.bind"):
        if layers.get("cluster.secret_file") or layers.get("cluster.insecure"):
            layers.work_out("node.bind", "0.0.0.0", "all IPv4 addresses")  # noqa: S104
        else:
            layers.work_out("node.bind", "127.0.0.1", "loopback: there is no secret")


def _check(config: Config, layers: _Layers) -> None:
    """What is impossible or unsafe. Each fault is told where one of its values stands."""
    _check_addresses(config, layers)
    cluster, agents = config.cluster, config.agents
    if cluster.insecure and cluster.secret_file:
        layers.fault("cluster.insecure", "there is a secret, and insecure = true", "remove one")
    if cluster.witness and cluster.bootstrap_expect:
        layers.fault(
            "cluster.witness",
            "a witness founds no cluster, and bootstrap_expect is set",
            "set bootstrap_expect = 0",
        )
    for key in ("node.state_dir", "control.socket", "cluster.secret_file"):
        value = layers.get(key)
        if value and not Path(value).is_absolute():
            # The value is not shown: it might be the secret itself, pasted in the wrong place.
            layers.fault(key, "is not an absolute path of a file or directory")
    if len(os.fsencode(config.control.socket)) > 107:
        layers.fault("control.socket", "longer than the 107 bytes that Linux allows")
    for agent, needed in (("consistency", "failure"), ("partition", "consistency")):
        if getattr(agents, agent) and not getattr(agents, needed):
            layers.fault(
                f"agents.{needed}", f"is off, and agents.{agent} needs it", f"set {agent} = false"
            )
    try:
        membership_config(config.gossip)
    except ConfigError as error:
        culprit = next((k for k in layers.origins if k.startswith("gossip.")), "gossip.profile")
        layers.fault(culprit, str(error))


def _check_addresses(config: Config, layers: _Layers) -> None:
    node, cluster, http = config.node, config.cluster, config.http
    bind = _ip(node.bind)
    if bind is None:
        layers.fault("node.bind", f"{node.bind!r} is not an IP address", _HINTS["node.bind"])
    elif not (bind.is_loopback or cluster.secret_file or cluster.insecure):
        layers.fault(
            "node.bind",
            f"{node.bind} is not loopback, and there is no secret",
            "set cluster.secret_file (`muster keys generate FILE` makes one)",
        )
    if node.advertise:
        _check_peer(node.advertise, "node.advertise", node.port, layers)
    for text in cluster.join:
        _check_peer(text, "cluster.join", node.port, layers)
    http_ip = _ip(http.bind)
    if http_ip is None or not http_ip.is_loopback:
        layers.fault("http.bind", f"{http.bind!r} is not loopback", _HINTS["http.bind"])
    if http.enabled and http.port == node.port != 0:
        layers.fault("http.port", f"{http.port} is the node's port too", "choose another one")


def _check_peer(text: str, key: str, default_port: int, layers: _Layers) -> None:
    """An address that others, or we, are to send to."""
    try:
        address = parse_address(text, default_port=default_port)
    except UsageError as error:
        layers.fault(key, str(error), _HINTS.get(key, ""))
        return
    ip = ipaddress.ip_address(address.host)
    if ip.is_unspecified or ip.is_multicast:
        layers.fault(key, f"{text} cannot be sent to", "give the address of one host")


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _items(config: Config, layers: _Layers) -> tuple[Item, ...]:
    """Every effective value; what [gossip] leaves open is shown as its profile has it."""
    membership = membership_config(config.gossip)
    items = []
    for key in layers.types:
        section, _, name = key.partition(".")
        value = getattr(getattr(config, section), name)
        origin = layers.origins.get(key, DEFAULT)
        if value is None:
            value, origin = getattr(membership, name), f"profile {config.gossip.profile}"
        items.append(Item(key, list(value) if isinstance(value, tuple) else value, origin))
    return tuple(items)
