"""`muster raft recover`: what it asks, refuses, shows and does, on real directories."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
import pytest

from muster.agents.consistency.raft.engine import FIRST_ENTRY
from muster.cli.exit import Exit
from muster.entropy import SystemEntropy
from muster.identity import IDENTITY_NAME, load_or_create
from muster.storage.files import DiskFiles
from muster.storage.records import encode_record
from muster.storage.recovery import create_journal
from muster.storage.succession import WITNESS_NAME
from muster.storage.superblock import Superblock, read_superblock, write_superblock
from muster_protocol.raftguard.survivors import Survey
from muster_protocol.raftguard.witness import Promises, persist
from muster_protocol.wire.raft import Configuration, Voter
from testkit.commandline import Outcome, muster

OLD, NEW = "b" * 32, "9" * 32
VOTERS = tuple(Voter(f"{n:032x}", f"{n:016x}") for n in (1, 2, 3))


def a_state(directory: Path, number: int, *, entries: int = 3, cluster: str = OLD) -> str:
    """A stopped voter's directory."""
    files = DiskFiles(directory)
    load_or_create(files, SystemEntropy(), machine="")
    seat = VOTERS[number - 1]
    block = Superblock(2, seat.node, cluster, seat.generation, b"k" * 16)
    journal = create_journal(files, block, Configuration(VOTERS), FIRST_ENTRY)
    journal.setCurrentTerm(7, None)
    for index in range(2, 2 + entries):
        journal.add(b"\x01", index, 7)
    work = journal.begin_commit()
    assert work is not None
    work()
    journal.close()
    write_superblock(files, block)
    files.close()
    return str(directory)


def recover(state: str, *argv: str, stdin: bytes = b"", tty: bool = False) -> Outcome:
    return muster("raft", "recover", "--state-dir", state, *argv, stdin=stdin, stdin_tty=tty)


def exported(tmp_path: Path, number: int, **options: int) -> str:
    state = a_state(tmp_path / f"other{number}", number, **options)  # type: ignore[arg-type]
    path = tmp_path / f"web{number}.json"
    path.write_bytes(recover(state, "--inspect", "--json").stdout)
    return str(path)


def block_of(state: str) -> Superblock | None:
    files = DiskFiles(Path(state))
    try:
        return read_superblock(files)
    finally:
        files.close()


def test_inspect_tells_where_the_log_ends_and_changes_nothing(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 1)
    before = {path.name: path.read_bytes() for path in Path(state).iterdir()}
    told = recover(state, "--inspect", "--json")
    assert told.code == Exit.OK
    survey = msgspec.json.decode(told.stdout, type=Survey)
    assert (survey.last_term, survey.last_index, survey.cluster) == (7, 4, OLD)
    assert "the log ends at 7/4" in recover(state, "--inspect").out
    assert {path.name: path.read_bytes() for path in Path(state).iterdir()} == before


def test_survivors_are_ranked_and_the_loss_is_told(tmp_path: Path) -> None:
    one = exported(tmp_path, 1, entries=3)
    told = muster("raft", "recover", "--inspect", one)
    assert told.code == Exit.OK
    assert "1 of 3 voters are here, 2 are a majority" in told.out
    assert "MAY BE LOST: writes that 2 of the 2 missing voters acknowledged" in told.out
    assert "fenced: 00000000, 00000000 (dead, or not asked)" in told.out
    same = exported(tmp_path, 3, entries=3)
    assert "have most: the log ends at 7/4" in muster("raft", "recover", "--inspect", one, same).out
    two = exported(tmp_path, 2, entries=5)
    ranking = muster("raft", "recover", "--inspect", one, two, "--json").json
    assert (ranking["best"], ranking["has_quorum"]) == (VOTERS[1].node, True)
    assert ranking["missing"] == [VOTERS[2].node]


def survey_of_witness(tmp_path: Path, index: int) -> str:
    """What --inspect says at the third voter, a witness that was asked up to 7/`index`."""
    state = tmp_path / f"witness{index}"
    state.mkdir()
    (state / IDENTITY_NAME).write_bytes(b"")
    promises = Promises(1, VOTERS[2].node, OLD, VOTERS[2].generation, 9, "", 7, index)
    record = encode_record(1, persist(promises).data)
    (state / WITNESS_NAME).write_bytes(record)
    told = recover(str(state), "--inspect", "--json")
    assert told.code == Exit.OK, told.stderr
    assert f"a witness, asked up to 7/{index}" in recover(str(state), "--inspect").out
    assert "a witness, and has no data" in recover(str(state), "--yes", "--as-of", "7/4").stderr
    path = tmp_path / f"witness{index}.json"
    path.write_bytes(told.stdout)
    return str(path)


def test_a_witness_says_what_is_lost(tmp_path: Path) -> None:
    one = Path(exported(tmp_path, 1, entries=3))
    survey = msgspec.json.decode(one.read_bytes(), type=Survey)
    mine = msgspec.structs.replace(survey, witness=VOTERS[2].node)
    one.write_bytes(msgspec.json.encode(mine))
    told = muster("raft", "recover", "--inspect", str(one))
    assert "would know more: --inspect it, too" in told.out
    beyond = muster("raft", "recover", "--inspect", str(one), survey_of_witness(tmp_path, 6))
    assert "the witness was asked up to 7/6" in beyond.out
    assert "MAY BE LOST: the writes between, up to 7/6" in beyond.out
    ranking = muster("raft", "recover", "--inspect", "--json", str(one),
                     survey_of_witness(tmp_path, 4)).json  # fmt: skip
    assert (ranking["has_quorum"], ranking["may_lose_acknowledged"]) == (True, False)


def test_a_person_types_the_clusters_id_and_it_is_done(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 1)
    done = recover(state, stdin=OLD[:8].encode() + b"\n", tty=True)
    assert done.code == Exit.OK, done.stderr
    block = block_of(state)
    assert block is not None
    assert block.cluster != OLD
    assert f"muster raft recover --rejoin {block.cluster}" in done.out
    assert "MAY BE LOST" in done.out


@pytest.mark.parametrize("said", [b"", b"y\n", b"yes\n", NEW[:8].encode()])
def test_anything_else_changes_nothing(tmp_path: Path, said: bytes) -> None:
    state = a_state(tmp_path / "state", 1)
    told = recover(state, stdin=said, tty=True)
    assert told.code == Exit.FAILED
    assert "nothing was changed" in told.stderr
    block = block_of(state)
    assert block is not None
    assert block.cluster == OLD


def test_a_script_says_as_of_when_it_means_it(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 1)
    blind = recover(state, "--yes")
    assert (blind.code, "--as-of" in blind.stderr) == (Exit.USAGE, True)
    assert recover(state).code == Exit.USAGE
    assert recover(state, "--json").code == Exit.USAGE
    other = recover(state, "--yes", "--as-of", "7/5")
    assert other.code == Exit.CONFLICT
    assert "ends at 7/4, not at 7/5; nothing was changed" in other.stderr
    done = recover(state, "--yes", "--as-of", "7/4", "--json")
    assert done.code == Exit.OK
    assert (done.json["was"], done.json["last_index"]) == (OLD, 4)
    assert done.json["fenced"] == [voter.node for voter in VOTERS[1:]]
    block = block_of(state)
    assert block is not None
    assert block.cluster == done.json["cluster"]


def test_only_the_one_with_most_is_recovered(tmp_path: Path) -> None:
    """Of five voters two are left; this one is behind."""
    state = a_state(tmp_path / "state", 1, entries=3)
    survey = msgspec.json.decode(recover(state, "--inspect", "--json").stdout, type=Survey)
    seats = (*survey.voters, *(Voter(f"{n:032x}", f"{n:016x}") for n in (4, 5)))
    ahead = msgspec.structs.replace(
        survey, name="web2", node=seats[1].node, generation=seats[1].generation, last_index=9,
        voters=seats,
    )  # fmt: skip
    path = tmp_path / "web2.json"
    path.write_bytes(msgspec.json.encode(ahead))
    told = recover(state, "--yes", "--as-of", "7/4", str(path))
    assert told.code == Exit.CONFLICT
    assert "web2 has more of the log than this node" in told.stderr


def test_survivors_that_are_a_majority_are_refused(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 1)
    told = recover(state, "--yes", "--as-of", "7/4", exported(tmp_path, 2, entries=1))
    assert told.code == Exit.CONFLICT
    assert "2 of 3 voters are here, which is a majority" in told.stderr


def test_what_is_no_survey_is_told_in_one_line(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 1)
    for content in (b"", b"{}", b"\xff\xfe", b"[]", b'{"schema":"muster.status/1"}'):
        path = tmp_path / "wrong.json"
        path.write_bytes(content)
        told = recover(state, "--yes", "--as-of", "7/4", str(path))
        assert told.code == Exit.USAGE
        assert "is no survey of a node" in told.stderr
        assert len(told.stderr.splitlines()) <= 2
    missing = recover(state, "--yes", "--as-of", "7/4", str(tmp_path / "none.json"))
    assert missing.code == Exit.NOT_FOUND


def test_surveys_of_two_clusters_are_refused(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 1)
    foreign = a_state(tmp_path / "foreign", 2, cluster=NEW)
    path = tmp_path / "web2.json"
    path.write_bytes(recover(foreign, "--inspect", "--json").stdout)
    told = recover(state, "--yes", "--as-of", "7/4", str(path))
    assert told.code == Exit.USAGE
    assert "2 clusters" in told.stderr


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 1)
    files = DiskFiles(Path(state))
    try:
        for argv in (("--inspect",), ("--rejoin", NEW, "--yes"), ("--yes", "--as-of", "7/4")):
            told = recover(state, *argv)
            assert told.code == Exit.FAILED
            assert "is in use: stop this node's daemon first" in told.stderr
    finally:
        files.close()


def test_a_directory_without_a_node_or_without_a_seat(tmp_path: Path) -> None:
    for argv in (("--inspect",), ("--rejoin", NEW, "--yes")):
        told = recover(str(tmp_path / "none"), *argv)
        assert told.code == Exit.NOT_FOUND
        assert "no node's state" in told.stderr
    assert not (tmp_path / "none").exists()
    files = DiskFiles(tmp_path / "member")
    load_or_create(files, SystemEntropy(), machine="")
    files.close()
    told = recover(str(tmp_path / "member"), "--inspect")
    assert told.code == Exit.NOT_FOUND
    assert "no seat" in told.stderr


def test_damage_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 1)
    superblock = Path(state) / "superblock"
    data = bytearray(superblock.read_bytes())
    data[20] ^= 1
    superblock.write_bytes(data)
    told = recover(state, "--yes", "--as-of", "7/4")
    assert told.code == Exit.FAILED
    assert "superblock" in told.stderr
    assert superblock.read_bytes() == bytes(data)


def test_who_rejoins_is_asked_and_gives_up_its_seat(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 2)
    assert recover(state, "--rejoin", NEW).code == Exit.USAGE
    assert recover(state, "--rejoin", NEW, stdin=b"\n", tty=True).code == Exit.FAILED
    assert block_of(state) is not None
    own = recover(state, "--rejoin", OLD, "--yes")
    assert own.code == Exit.CONFLICT
    assert "has a seat in cluster bbbbbbbb" in own.stderr
    done = recover(state, "--rejoin", NEW, stdin=b"y\n", tty=True)
    assert done.code == Exit.OK, done.stderr
    assert block_of(state) is None
    assert (Path(state) / "cluster").read_text() == NEW
    assert recover(state, "--rejoin", NEW, "--yes").code == Exit.OK, "it may be said again"


@pytest.mark.parametrize(
    "argv",
    [
        ("--rejoin", "short"),
        ("--rejoin", NEW, "--inspect"),
        ("--rejoin", NEW, "--as-of", "7/4"),
        ("--rejoin", NEW, "file.json"),
        ("--yes", "--as-of", "7"),
        ("--yes", "--as-of", "7/x"),
        ("--config", "/nowhere/muster.toml", "--nonsense"),
    ],
)
def test_a_wrong_command_line_is_usage(tmp_path: Path, argv: tuple[str, ...]) -> None:
    state = a_state(tmp_path / "state", 1)
    assert recover(state, *argv).code == Exit.USAGE


def test_the_directory_is_the_configured_one_and_the_name_too(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 1)
    config = tmp_path / "muster.toml"
    config.write_text(f'[node]\nname = "web1"\nstate_dir = "{state}"\n')
    told = muster("raft", "recover", "--inspect", "--json", "--config", str(config))
    assert told.json["name"] == "web1"


def test_what_is_made_belongs_to_the_directorys_owner() -> None:
    """For root too: the daemon runs as another user."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)  # those above it are everybody's to pass, as /var/lib is
        state = a_state(Path(parent) / "state", 1)
        if os.geteuid() == 0:
            for path in [Path(state), *Path(state).iterdir()]:
                os.chown(path, 65534, 65534)
        owner = Path(state).stat().st_uid
        assert recover(state, "--yes", "--as-of", "7/4").code == Exit.OK
        assert {path.stat().st_uid for path in Path(state).iterdir()} == {owner}
    assert os.geteuid() == os.getuid()


def test_help_leads_with_examples() -> None:
    told = muster("raft", "recover", "--help")
    assert told.code == Exit.OK
    assert "muster raft recover --inspect --json > web1.json" in told.out
    assert "Exit codes: 0 done" in told.out
