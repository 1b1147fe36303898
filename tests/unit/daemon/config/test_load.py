"""Layers, origins, and every way to be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from muster.config.load import ConfigInvalid, Host, Loaded, load_config
from muster.config.paths import client_socket
from muster_protocol.errors import ConfigError
from muster_protocol.types import Address

SECRET = "/etc/muster/secret"


def load(
    tmp_path: Path,
    text: str = "",
    *,
    environ: Mapping[str, str] | None = None,
    uid: int = 0,
    name: str = "web1.example.org",
    flags: Mapping[str, Any] | None = None,
) -> Loaded:
    """The configuration that `text` makes on a host that is otherwise bare."""
    path = tmp_path / "m.toml"
    path.write_text(text)
    return load_config(path, flags=flags or {}, host=Host(environ or {}, uid, name))


def faults(tmp_path: Path, text: str, **surroundings: Any) -> list[str]:
    """What is wrong, without the file's directory."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **surroundings)
    assert isinstance(caught.value, ConfigInvalid)
    assert str(caught.value) == "\n".join(map(str, caught.value.faults))
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


# --- what works -----------------------------------------------------------------------------------


def test_an_empty_file_gives_a_node_on_loopback(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    config = loaded.config
    assert config.node.name == "web1"
    assert config.bind_address == Address("127.0.0.1", 7411)
    assert config.http_address == Address("127.0.0.1", 7412)
    assert config.advertise_address is None
    assert config.node.state_dir == "/var/lib/muster"
    assert config.control.socket == "/run/muster/muster.sock"
    assert loaded.origin("node.name") == "default (host name)"
    assert loaded.origin("node.bind") == "default (loopback: there is no secret)"
    assert loaded.origin("node.port") == "default"


def test_with_a_secret_every_address_is_bound(tmp_path: Path) -> None:
    loaded = load(tmp_path, f'[cluster]\nsecret_file = "{SECRET}"\n')
    assert loaded.config.bind_address == Address("0.0.0.0", 7411)
    assert loaded.origin("cluster.secret_file").endswith("m.toml:2")


def test_a_systemd_credential_is_the_secret(tmp_path: Path) -> None:
    (tmp_path / "muster.secret").write_text("x")
    loaded = load(tmp_path, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert loaded.config.cluster.secret_file == f"{tmp_path}/muster.secret"
    assert loaded.origin("cluster.secret_file") == "default (systemd credential)"
    assert loaded.config.node.bind == "0.0.0.0"


@pytest.mark.parametrize("bind", ["::", "fd00::7", "10.0.0.1"])
def test_ipv4_and_ipv6_are_bound_alike(tmp_path: Path, bind: str) -> None:
    text = f'[node]\nbind = "{bind}"\nadvertise = "[fd00::1]:7500"\n[cluster]\ninsecure = true\n'
    config = load(tmp_path, text).config
    assert config.bind_address == Address(bind, 7411)
    assert config.advertise_address == Address("fd00::1", 7500)


def test_a_later_layer_wins_and_is_named(tmp_path: Path) -> None:
    text = "[node]\nport = 1001\n[http]\nport = 1002\n[log]\nlevel = 'debug'\n"
    environ = {"MUSTER_NODE_PORT": "2001", "MUSTER_HTTP_PORT": "2002"}
    loaded = load(tmp_path, text, environ=environ, flags={"node.port": "3001"})
    config = loaded.config
    assert (config.node.port, config.http.port, config.log.level) == (3001, 2002, "debug")
    assert loaded.origin("node.port") == "flag node.port"
    assert loaded.origin("http.port") == "environment MUSTER_HTTP_PORT"
    assert loaded.origin("log.level").endswith("m.toml:6")


def test_the_environment_speaks_every_type(tmp_path: Path) -> None:
    environ = {
        "MUSTER_CLUSTER_JOIN": "10.0.0.1, [fd00::1]:7500",
        "MUSTER_HTTP_ENABLED": "false",
        "MUSTER_GOSSIP_PROBE_TIMEOUT_S": "0.25",
        "MUSTER_SOCKET": "/tmp/m.sock",
    }
    config = load(tmp_path, environ=environ).config
    assert config.join_addresses == (Address("10.0.0.1", 7411), Address("fd00::1", 7500))
    assert config.http_address is None
    assert config.gossip.probe_timeout_s == 0.25
    assert config.control.socket == "/tmp/m.sock"


def test_flags_are_text_or_values(tmp_path: Path) -> None:
    flags = {"cluster.join": ["10.0.0.1"], "cluster.insecure": True, "node.port": 7500}
    config = load(tmp_path, flags=flags).config
    assert config.join_addresses == (Address("10.0.0.1", 7500),)


def test_names_that_others_make_are_left_alone(tmp_path: Path) -> None:
    """Kubernetes does so for a service called `muster`."""
    load(tmp_path, environ={"MUSTER_SERVICE_HOST": "10.0.0.1", "MUSTER_PORT": "tcp://10.0.0.1:1"})


def test_the_gossip_profile_gives_what_is_not_set(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[gossip]\nprofile = "wan"\nprobe_timeout_s = 2.0\n')
    items = {item.key: item for item in loaded.items}
    assert items["gossip.probe_interval_s"].value == 5.0
    assert items["gossip.probe_interval_s"].origin == "profile wan"
    assert items["gossip.probe_timeout_s"].value == 2.0


@pytest.mark.parametrize(
    ("environ", "uid", "state", "socket"),
    [
        ({}, 0, "/var/lib/muster", "/run/muster/muster.sock"),
        (
            {"STATE_DIRECTORY": "/var/lib/m", "RUNTIME_DIRECTORY": "/run/m:/run/x"},
            999,
            "/var/lib/m",
            "/run/m/muster.sock",
        ),
        (
            {"HOME": "/home/a", "XDG_RUNTIME_DIR": "/run/user/7"},
            7,
            "/home/a/.local/state/muster",
            "/run/user/7/muster/muster.sock",
        ),
        (
            {"HOME": "/home/a", "XDG_STATE_HOME": "/s"},
            7,
            "/s/muster",
            "/s/muster/muster.sock",
        ),
    ],
)
def test_places_follow_who_runs_it(
    tmp_path: Path, environ: dict[str, str], uid: int, state: str, socket: str
) -> None:
    config = load(tmp_path, environ=environ, uid=uid).config
    assert (config.node.state_dir, config.control.socket) == (state, socket)


def test_a_client_looks_where_a_daemon_is(tmp_path: Path) -> None:
    own = tmp_path / "muster" / "muster.sock"
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert client_socket(environ) == "/run/muster/muster.sock"
    own.parent.mkdir()
    own.touch()
    assert client_socket(environ) == str(own)
    assert client_socket({**environ, "MUSTER_SOCKET": "/x"}) == "/x"


def test_without_a_file_there_are_defaults_and_a_named_file_must_be_there(tmp_path: Path) -> None:
    host = Host({"XDG_CONFIG_HOME": str(tmp_path)}, 7, "web1")
    assert load_config(host=host).path == ""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.toml", host=host)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(host=Host({"MUSTER_CONFIG": str(tmp_path / "none.toml")}, 7, "web1"))
    (tmp_path / "muster").mkdir()
    (tmp_path / "muster" / "muster.toml").write_text("[node]\nport = 7500\n")
    assert load_config(host=host).config.node.port == 7500


# --- what does not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[node]\nprot = 1", "m.toml:2: node.prot: there is no such setting; did you mean port?"),
        ("[nod]\n", "m.toml:1: nod: there is no such section; did you mean [node]?"),
        ("bootstrap_expect = 3", "m.toml:1: bootstrap_expect: outside any section; it belongs"),
        (
            "[log]\nsocket = '/x'",
            "m.toml:2: log.socket: there is no such setting; it belongs",
        ),
        ("[node]\nzzzzzz = 1", "m.toml:2: node.zzzzzz: there is no such setting; see configs/"),
        ("node = 3", "m.toml:1: node: is a section: write [node]"),
        ("[[node]]\nport = 1", "m.toml:1: node: is a section: write [node]"),
        ("[node]\nport = '7411'", "m.toml:2: node.port: expected a whole number, not '7411'"),
        ("[node]\nport = true", "m.toml:2: node.port: expected a whole number, not True"),
        (
            "[node]\nport = 70000",
            "m.toml:2: node.port: expected a whole number <= 65535, not 70000",
        ),
        ("[http]\nenabled = 1", "m.toml:2: http.enabled: expected true or false, not 1"),
        ("[node]\nname = 'a b'", "m.toml:2: node.name: 'a b' is not allowed; letters"),
        ('[node]\nname = "a\\n"', "m.toml:2: node.name: 'a\\n' is not allowed"),
        ("[log]\nlevel = 'inf'", "m.toml:2: log.level: 'inf' is not one of the choices; did you"),
        ("[cluster]\njoin = '10.0.0.1'", "m.toml:2: cluster.join: expected a list"),
        ("[cluster]\njoin = [\n 'x',\n]", "m.toml:2: cluster.join: address 'x'"),
        ("[cluster]\njoin = ['0.0.0.0']", "m.toml:2: cluster.join: 0.0.0.0 cannot be sent to"),
        ("[node]\nadvertise = '::'", "m.toml:2: node.advertise: :: cannot be sent to"),
        ("[node]\nbind = 'eth0'", "m.toml:2: node.bind: 'eth0' is not an IP address"),
        ("[node]\nbind = '10.0.0.1'", "m.toml:2: node.bind: 10.0.0.1 is not loopback, and there"),
        ("[node]\nbind = '::'", "m.toml:2: node.bind: :: is not loopback, and there is no secret"),
        ("[http]\nbind = '0.0.0.0'", "m.toml:2: http.bind: '0.0.0.0' is not loopback"),
        ("[http]\nport = 7411", "m.toml:2: http.port: 7411 is the node's port too"),
        ("[node]\nstate_dir = 'x'", "m.toml:2: node.state_dir: is not an absolute path"),
        ("[gossip]\nprobe_timeout_s = 5", "m.toml:2: gossip.probe_timeout_s: membership: probe_"),
        ("[gossip]\nprobe_interval_s = inf", "m.toml:2: gossip.probe_interval_s: expected"),
        ("[gossip]\nprobe_interval_s = nan", "m.toml:2: gossip.probe_interval_s: expected"),
        ("[gossip]\nprobe_interval_s = -1", "m.toml:2: gossip.probe_interval_s: expected"),
        ("[agents]\nfailure = false", "m.toml:2: agents.failure: is off, and agents.consistency"),
        ("[partition]\nquorum_size = 99", "m.toml:2: partition.quorum_size: expected"),
        ("[node\n", "m.toml:1: not valid TOML"),
        ("[node]\nport = 1\nport = 2", "m.toml:3: not valid TOML: cannot overwrite a value"),
    ],
)
def test_each_fault_is_told_with_its_line_and_a_hint(tmp_path: Path, text: str, fault: str) -> None:
    (told, *_) = faults(tmp_path, text)
    assert told.startswith(fault)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = "[node]\nprot = 1\nport = 'x'\n[log]\nlevel = 3\n"
    told = faults(tmp_path, text, environ={"MUSTER_NODE_BIN": "x"}, flags={"node.nam": "x"})
    assert [line.partition(": ")[0] for line in told] == [
        "m.toml:2",
        "m.toml:3",
        "m.toml:5",
        "environment MUSTER_NODE_BIN",
        "flag node.nam",
    ]
    assert told[3].endswith("did you mean MUSTER_NODE_BIND?")


def test_an_override_is_blamed_where_it_stands(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "[node]\nport = 1\n", environ={"MUSTER_NODE_PORT": "many"})
    assert told == "environment MUSTER_NODE_PORT: node.port: expected a whole number, not 'many'"


def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I="
    told = faults(tmp_path, f"[cluster]\nsecret_file = '{secret}'\n")
    assert secret not in "".join(told)


def test_secret_and_insecure_contradict_each_other(tmp_path: Path) -> None:
    text = f"[cluster]\ninsecure = true\nsecret_file = '{SECRET}'\n"
    (told,) = faults(tmp_path, text)
    assert told.startswith("m.toml:2: cluster.insecure: there is a secret")


def test_a_host_name_that_is_no_node_name_is_told(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "", name="-web_1")
    assert told.startswith("default (host name): node.name: '-web_1' is not allowed")


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_bytes(b"[node]\n\nname = '\xff'\n")
    with pytest.raises(ConfigError, match=r"m\.toml:3: not UTF-8 text"):
        load_config(path, host=Host({}, 0, "web1"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, host=Host({}, 0, "web1"))
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_config(path, host=Host({}, 0, "web1"))
