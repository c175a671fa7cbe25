"""What `zattctl doctor` finds, from what nodes say of themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

from zattredis.cli.ctl.doctor import Finding, Patient, diagnose
from zattredis.cli.ctl.nodes import Node

IDS = ("n1", "n2", "n3")


def info(node_id: str, **changed: Any) -> dict[str, str]:
    fields = {
        "raft_node_id": node_id, "raft_role": "leader" if node_id == "n1" else "follower", "raft_leader_id": "n1",
        "raft_cluster_id": "c1",
        "raft_state": "up", "raft_current_term": 3, "raft_commit_index": 50_000, "raft_applied_index": 50_000,
        "raft_elections": 1, "uptime_in_seconds": 7200, "storage_syncs": 100, "storage_sync_usec": 50_000,
        "storage_sync_usec_max": 4000, "storage_free_bytes": 100 << 30, "storage_log_bytes": 1 << 20,
        "storage_state_bytes": 1 << 30, "aof_last_write_status": "ok", "zattredis_version": "0.2.0",
        "connected_clients": 10, "maxclients": 1000, "maxmemory": 0, "used_memory": 1 << 20,
        **{f"raft_member_{i}": f"address={i}:1,role=follower,match_index=1,lag=0,connected=yes" for i in IDS},
    } | changed  # fmt: skip
    return {name: str(value) for name, value in fields.items()}


def patient(node_id: str, *, clock_ms: float = 0.0, voters: list[str] | None = None, change: str = "none",
            config: dict[str, str] | None = None, **changed: Any) -> Patient:  # fmt: skip
    raft = {"voters": voters or list(IDS), "change": change}
    node = Node(node_id, f"{node_id}:1", info(node_id, **changed))
    return Patient(node, clock_ms, {"port": node_id, "maxclients": "1000"} | (config or {}), raft)


def dead(node_id: str) -> Patient:
    return Patient(Node(node_id, f"{node_id}:1", problem=f"cannot connect to {node_id}:1: Connection refused"))


def found(*patients: Patient) -> list[tuple[str, str]]:
    findings = list(diagnose(patients))
    assert all(finding.remedy for finding in findings)
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=("problem", "warning", "note").index)
    return [(finding.level, finding.text) for finding in findings]


def trio(**changed: Any) -> list[Patient]:
    """Three healthy nodes, the third as told."""
    return [patient("n1"), patient("n2"), patient("n3", **changed)]


def test_a_healthy_cluster_needs_nothing() -> None:
    assert found(*trio()) == []


def test_a_dead_node_and_what_is_left_of_the_quorum() -> None:
    assert found(patient("n1"), patient("n2"), dead("n3")) == [
        ("problem", "cannot connect to n3:1: Connection refused"),
        ("warning", "2 of 3 voters answer: one more lost, and all writes stop"),
    ]
    texts = [text for _, text in found(patient("n1"), dead("n2"), dead("n3"))]
    assert "no quorum: 1 of 3 voters answer, 2 are needed" in texts


def test_no_leader() -> None:
    nobody = [patient(i, raft_role="follower") for i in IDS]
    assert ("problem", "no node leads, though enough voters answer") in found(*nobody)


def test_numbers_of_voters() -> None:
    alone = patient("n1", voters=["n1"])
    assert found(alone) == [("note", "one voter: if it is lost, so are service and data")]
    two = ["n1", "n2"]
    assert ("warning", "2 voters survive no more losses than 1 would") in found(
        patient("n1", voters=two), patient("n2", voters=two)
    )


def test_a_node_of_another_cluster() -> None:
    assert found(*trio(raft_cluster_id="c2")) == [
        ("problem", "they are not of one cluster: n1 of c1, n2 of c1, n3 of c2")
    ]  # fmt: skip


def test_links() -> None:
    cut = patient("n3", raft_member_n2="address=n2:1,role=follower,match_index=1,lag=0,connected=no")
    assert found(patient("n1"), patient("n2"), cut) == [("problem", "has no link to n2, which answers clients")]


def test_clocks() -> None:
    assert found(*trio(clock_ms=700.0)) == [("warning", "its clock is 0.7 s ahead")]
    assert found(*trio(clock_ms=-20_000.0)) == [("problem", "its clock is 20.0 s behind")]


def test_disks() -> None:
    assert found(*trio(storage_sync_usec=4_000_000)) == [
        ("warning", "a sync of its log takes 40.00 ms on average")
    ]  # fmt: skip
    assert found(*trio(storage_sync_usec_max=2_000_000)) == [("warning", "a sync of its log lately took 2000 ms")]
    assert found(*trio(storage_free_bytes=512 << 20)) == [("warning", "512 MiB are free beside 1.0 GiB of data")]
    full = trio(storage_free_bytes=1 << 20, aof_last_write_status="err")
    assert found(*full) == [("problem", "refuses writes (DISKFULL): 1.0 MiB are free")]


def test_followers_that_lag_or_wait() -> None:
    assert found(*trio(raft_applied_index=10)) == [("warning", "is 49,990 entries behind")]
    texts = [text for _, text in found(*trio(raft_state="rejoining"))]
    assert texts[0].startswith("has lost its data, and does not vote")
    assert found(*trio(raft_elections=500)) == [("warning", "began 500 elections in 2 h")]


def test_settings_and_versions_that_differ() -> None:
    assert found(*trio(config={"maxclients": "5"})) == [
        ("warning", "maxclients differs: n1: 1000, n2: 1000, n3: 5")
    ]  # fmt: skip
    assert found(*trio(config={"port": "1"})) == []
    own = [
        {"tls-cert-file": f"{i}.crt", "tls-key-file": f"{i}.key", "tls-port": f"70{i[1]}", "sentinel-port": f"9{i[1]}"}
        for i in IDS
    ]
    assert found(*(patient(i, config=config) for i, config in zip(IDS, own, strict=True))) == [], "README's own cluster"
    (finding,) = diagnose([patient(i, config=c | {"tls-port": "0"} if i == "n2" else c)
                           for i, c in zip(IDS, own, strict=True)])  # fmt: skip
    assert finding.text == "tls-port differs: n1: 701, n2: 0, n3: 703" and "restart" in finding.remedy
    ((_, told), *_) = found(patient("n1", config={"requirepass": "one"}), patient("n2", config={"requirepass": "two"}),
                            patient("n3", config={"requirepass": "one"}))  # fmt: skip
    assert told == "requirepass differs: n1: …, n2: …, n3: …"
    assert found(*trio(zattredis_version="0.1.0")) == [("note", "versions differ: n1 0.2.0, n2 0.2.0, n3 0.1.0")]


def test_doors_that_stand_open() -> None:
    def told(nopass: bool = True, **config: str) -> list[tuple[str, str]]:
        named = {"port": "7001", "bind": "0.0.0.0", "protected-mode": "no"} | {
            name.replace("_", "-"): value for name, value in config.items()
        }
        alike = [patient(i, config={"protected-mode": "no"}) for i in ("n1", "n2")]
        return found(*alike, dataclasses.replace(patient("n3", config=named), nopass=nopass))

    everybody = "lets in everybody who reaches 0.0.0.0: protected mode is off, and no password is needed"
    assert told() == [("warning", everybody)]
    assert told(nopass=False) == told(bind="127.0.0.1 ::1 localhost:7001") == []
    assert told(port="7001", tls_port="7001", tls_auth_clients="yes") == []
    assert told(port="7001", tls_port="7001", tls_auth_clients="optional") == [("warning", everybody)]
    admin = "its admin port listens on 0.0.0.0, in plain HTTP"
    assert told(bind="127.0.0.1", admin_port="9379", admin_bind="127.0.0.1") == []
    assert told(nopass=False, admin_port="9379", admin_bind="0.0.0.0") == [("note", admin)]
    asks_nobody = ("warning", f"{admin}, and asks nobody for a password")
    assert told(admin_port="9379", admin_bind="0.0.0.0") == [("warning", everybody), asks_nobody]


def test_limits() -> None:
    assert found(*trio(connected_clients=950))[0][1] == "has 950 of at most 1000 clients"
    assert found(*trio(maxmemory=1 << 20))[0][1] == "uses 1.0 MiB of maxmemory 1.0 MiB"


def test_a_change_under_way_is_a_note() -> None:
    change = "n4 will be voters once they have caught up"
    changing = patient("n1", change=change)
    (finding,) = list(diagnose([changing, patient("n2"), patient("n3")]))
    assert finding == Finding(
        "note", "", f"a membership change is under way: {change}", "zattctl members shows how far"
    )
