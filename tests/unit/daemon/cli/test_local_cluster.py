"""The configuration files of a local cluster."""

from __future__ import annotations

from pathlib import Path

from muster.cli.local_cluster import LocalCluster
from muster.config.load import Host, load_config


def test_settings_of_any_section_stand_beside_those_of_the_cluster(tmp_path: Path) -> None:
    settings = {
        "cluster": {"voters": 3, "replace_voter_after_s": 10.0},
        "recorder": {"enabled": False},
        "http": {"port": 0},
    }
    cluster = LocalCluster(tmp_path / 'a "ü" \\ b', 4, founders=3, settings=settings)
    node = cluster.nodes[3]
    loaded = load_config(node.config_path, flags={}, host=Host({}, 0, "host")).config
    assert loaded.cluster.voters == 3
    assert loaded.cluster.replace_voter_after_s == 10.0
    assert loaded.cluster.join == ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
    assert loaded.cluster.secret_file == str(cluster.secret_file)
    assert not loaded.recorder.enabled
    assert (loaded.http.bind, loaded.http.port) == ("127.0.0.4", 0)
    assert loaded.node.name == "n4"


def test_the_first_nodes_found_the_cluster_and_the_others_join(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, 3, founders=2)
    texts = [node.config_path.read_text() for node in cluster.nodes]
    founders = [line for text in texts for line in text.splitlines() if "expect" in line]
    assert founders == [f"bootstrap_expect = {count}" for count in (2, 2, 0)]
