"""The files of conf/ that watch and run nodes, checked as far as a machine without those systems allows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.admin.conftest import Watched
from tests.support.cluster import REPOSITORY, ZattCluster
from tests.support.http_client import parse_metrics, request
from zattredis.config import Settings, load_settings

CONF = REPOSITORY / "conf"
METRIC = re.compile(r"\b((?:zattredis|process)_\w+)(\{[^}]*\})?")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


# -- Grafana and Prometheus


def exported(cluster: Watched) -> dict[str, set[str]]:
    """Names of samples a node exports → names of their labels."""
    with cluster.client() as client:
        client.call("SET", "key", "value", "EX", "1000")
        client.try_call("LPUSH", "key", "value")
        client.try_call("GET")
    found: dict[str, set[str]] = {}
    for i in range(len(cluster.nodes)):
        for name, family in parse_metrics(request(cluster.admin[i], "/metrics").text).items():
            for labels in family.samples:
                pairs = dict(labels)
                found.setdefault(name + pairs.pop("", ""), set()).update(pairs)
    return found


def check_expression(expression: str, names: dict[str, set[str]]) -> None:
    mentioned = METRIC.findall(expression)
    assert mentioned, expression
    known = {"job", "instance"}
    for name, selector in mentioned:
        assert name in names, f"{name} is not exported"
        known |= names[name]
        for label in re.findall(r"[{,](\w+)(?:=|!)", selector):
            assert label in names[name] | {"job", "instance"}, f"{name} has no label {label}"
        if not name.endswith("_bucket"):
            inside_rate = re.search(rf"(rate|increase)\({name}\b", expression)
            grows = name.endswith("_total") or SUFFIX.search(name)
            assert bool(inside_rate) == bool(grows), f"{name}: only what grows has a rate, and nothing else is of use"
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", labels)) <= known, expression
    assert expression.count("(") == expression.count(")")


def test_the_dashboard_asks_for_what_nodes_export(three: Watched) -> None:
    names = exported(three)
    dashboard = json.loads((CONF / "grafana.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) > 20
    for panel in panels:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            check_expression(target["expr"], names)
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label == "instance" or label in set().union(*names.values()), label
    for variable in dashboard["templating"]["list"]:
        for name in re.findall(r"label_values\((\w+)", variable["query"]):
            assert name in names
    asked = {name for panel in panels for target in panel["targets"] for name, _ in METRIC.findall(target["expr"])}
    for prefix in ("zattredis_raft_", "zattredis_log_sync_", "zattredis_command", "zattredis_rocksdb_",
                   "zattredis_snapshots_", "process_"):  # fmt: skip
        assert any(name.startswith(prefix) for name in asked), prefix


def test_the_dashboard_is_laid_out_without_overlap() -> None:
    panels = json.loads((CONF / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_alerts_ask_for_what_nodes_export(three: Watched) -> None:
    names = exported(three)
    prometheus = yaml.safe_load((CONF / "prometheus.yml").read_text())
    for file in prometheus["rule_files"]:
        for group in yaml.safe_load((CONF / file).read_text())["groups"]:
            for rule in group["rules"]:
                assert rule["labels"]["severity"] in ("warning", "critical")
                assert rule["annotations"]["summary"]
                if not rule["expr"].startswith("up{"):
                    check_expression(rule["expr"], names)


# -- Compose


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CONF / "compose.yaml").read_text())
    return loaded


def expanded(environment: dict[str, str]) -> dict[str, str]:
    """The variables of a service as Compose passes them on, with a secret and without a password."""
    return {
        name: re.sub(r"\$\{(\w+):[-?][^}]*\}", lambda match: "s" if "SECRET" in match[1] else "", value)
        for name, value in environment.items()
    }


def image_environment() -> dict[str, str]:
    text = (REPOSITORY / "Dockerfile").read_text()
    return dict(re.findall(r"(ZATTREDIS_\w+)=(\S+)", text))


def test_compose_makes_one_cluster_of_three() -> None:
    services = compose()["services"]
    clusters = set()
    for number, (name, service) in enumerate(services.items(), 1):
        settings = load_settings(environ=image_environment() | expanded(service["environment"]))
        assert settings.node_id == name == f"n{number}"
        assert settings.member.host == name, "the others find it by its service's name"
        assert settings.client_listen == (("0.0.0.0", 6379),)
        assert settings.peer_listen == ("0.0.0.0", 16379)
        assert settings.admin_listen == ("0.0.0.0", 9379)
        assert settings.cluster_secret
        clusters.add(settings.cluster)
        assert service["ports"] == [f"127.0.0.1:700{number}:6379", f"127.0.0.1:937{number}:9379"]
        volume, target = service["volumes"][0].split(":")
        assert volume == name in compose()["volumes"]
        assert settings.dir == target
        assert (CONF / service["build"] / "Dockerfile").exists()
    assert len(clusters) == 1
    assert "ZATTREDIS_CLUSTER_SECRET:?" in services["n1"]["environment"]["ZATTREDIS_CLUSTER_SECRET"]


def test_the_health_check_of_compose_and_image_works_as_a_container_runs_it(tmp_path: Path) -> None:
    """By the container's own variables alone; the ports are those of this machine."""
    commands = [service["healthcheck"]["test"] for service in compose()["services"].values()]
    in_image = re.search(r"HEALTHCHECK .* CMD (\[.*\])", (REPOSITORY / "Dockerfile").read_text())
    assert in_image is not None
    assert {tuple(command) for command in commands} == {("CMD", *json.loads(in_image[1]))}
    stub = tmp_path / "zattctl"
    stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zattredis.cli.zattctl "$@"\n')
    stub.chmod(0o755)
    variables = expanded(compose()["services"]["n1"]["environment"])
    with ZattCluster(3, in_memory=True, start=False) as cluster:
        members = ",".join(f"{node.name}=127.0.0.1:{node.port}" for node in cluster.nodes)
        secrets = {"ZATTREDIS_CLUSTER_SECRET": variables["ZATTREDIS_CLUSTER_SECRET"], "ZATTREDIS_REQUIREPASS": "pass"}
        for node in cluster.nodes:
            node.environment = {"ZATTREDIS_NODE_ID": node.name, "ZATTREDIS_CLUSTER": members} | secrets
        environment = {**os.environ, **cluster.nodes[0].environment, "PYTHONPATH": str(REPOSITORY),
                       "PATH": f"{tmp_path}:{os.environ['PATH']}"}  # fmt: skip

        def healthy() -> bool:
            return subprocess.run(commands[0][1:], env=environment, capture_output=True, check=False).returncode == 0

        assert not healthy()
        for node in cluster.nodes:
            cluster.spawn(node)
        from tests.support.cluster import wait_until

        wait_until(healthy, "the health check passes")


def test_the_image_lists_every_port_that_its_files_publish() -> None:
    exposed = re.search(r"^EXPOSE (.*)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert exposed is not None
    assert {"6379", "16379", "9379"} == set(exposed[1].split())


# -- systemd


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (CONF / "zattredis.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_starts_what_is_there_with_settings_that_are_right() -> None:
    found = unit()
    assert found["Type"] == ["notify"]
    command = found["ExecStart"][0].split()
    assert command == ["/opt/zattredis/bin/zattd", "--config", "/etc/zattredis/zattredis.toml"]
    variables = dict(pair.split("=") for pair in found["Environment"][0].split())
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    settings = load_settings(environ=variables, config_file=str(CONF / "zattredis.toml"))
    assert settings.dir == f"/var/lib/{found['StateDirectory'][0]}"
    assert int(found["TimeoutStopSec"][0].rstrip("s")) * 1000 > settings.shutdown_timeout_ms
    assert int(found["LimitNOFILE"][0]) > settings.maxclients
    assert float(found["WatchdogSec"][0]) * 1000 > settings.slow_sync_ms


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed (package systemd)")
    text = (CONF / "zattredis.service").read_text()
    path = tmp_path / "zattredis.service"
    path.write_text(text.replace("/opt/zattredis/bin/zattd", sys.executable))
    done = subprocess.run([tool, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "zattredis.service" in line]
    assert not complaints
    security = [tool, "security", "--offline=true", "--threshold=20", str(path)]
    done = subprocess.run(security, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


# -- Kubernetes


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    documents = yaml.safe_load_all((CONF / "kubernetes.yaml").read_text())
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifests()["StatefulSet", "zattredis"]["spec"]["template"]["spec"]
    return spec


def start_in_pod(name: str, directory: Path) -> Settings:
    """Run the container's command as that pod would, with a `zattd` that shows its settings; return them."""
    container = pod()["containers"][0]
    environment = {"PATH": f"{directory}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)} | image_environment()
    for variable in container["env"]:
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.name"
            environment[variable["name"]] = name
        elif "secretKeyRef" in source:
            environment[variable["name"]] = f"secret of {source['secretKeyRef']['key']}"
        else:
            environment[variable["name"]] = variable["value"]
    (directory / "zattd").write_text('#!/bin/sh\nenv -0 > "$(dirname "$0")/environment"\n')
    (directory / "zattd").chmod(0o755)
    subprocess.run(container["command"], env=environment, cwd=directory, check=True, timeout=60)
    seen = dict(pair.split("=", 1) for pair in (directory / "environment").read_text().split("\0") if pair)
    return load_settings(environ=seen)


def test_every_pod_starts_as_a_member_of_one_cluster(tmp_path: Path) -> None:
    replicas = manifests()["StatefulSet", "zattredis"]["spec"]["replicas"]
    all_settings = [start_in_pod(f"zattredis-{number}", tmp_path) for number in range(replicas)]
    assert len({settings.cluster for settings in all_settings}) == 1
    assert len(all_settings[0].cluster) == replicas
    for number, settings in enumerate(all_settings):
        assert settings.node_id == f"zattredis-{number}"
        assert settings.member.host == f"zattredis-{number}.zattredis-nodes"
        assert settings.requirepass == "secret of requirepass"
        assert settings.cluster_secret == "secret of cluster-secret"
        assert settings.client_listen == (("0.0.0.0", 6379),)
    fourth = start_in_pod("zattredis-3", tmp_path)
    assert [f"{seed.host}:{seed.port}" for seed in fourth.join] == [
        f"{member.host}:{member.port}" for member in all_settings[0].cluster
    ]
    assert (fourth.node_id, fourth.host, fourth.port) == ("zattredis-3", "zattredis-3.zattredis-nodes", 6379)


def test_ports_names_and_probes_fit_together(tmp_path: Path, single: Watched) -> None:
    found = manifests()
    container = pod()["containers"][0]
    settings = start_in_pod("zattredis-0", tmp_path)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.admin_listen == ("0.0.0.0", ports["admin"])
    assert settings.client_listen[0][1] == ports["redis"]
    assert settings.peer_listen == ("0.0.0.0", ports["peer"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        http = container[probe]["httpGet"]
        assert http["port"] == "admin"
        assert request(single.admin[0], http["path"], Host="10.1.2.3:9379").status == 200
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    labels = found["StatefulSet", "zattredis"]["spec"]["template"]["metadata"]["labels"]
    headless, client = found["Service", "zattredis-nodes"]["spec"], found["Service", "zattredis"]["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"] is True
    assert found["StatefulSet", "zattredis"]["spec"]["serviceName"] == "zattredis-nodes"
    assert "publishNotReadyAddresses" not in client
    for service in (headless, client):
        assert service["selector"] == labels
        for port in service["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    budget = found["PodDisruptionBudget", "zattredis"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert budget["maxUnavailable"] == 1
    annotations = found["StatefulSet", "zattredis"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["admin"])


def test_pods_keep_their_data_and_have_no_rights(tmp_path: Path) -> None:
    spec = manifests()["StatefulSet", "zattredis"]["spec"]
    container = pod()["containers"][0]
    mount = container["volumeMounts"][0]
    assert spec["volumeClaimTemplates"][0]["metadata"]["name"] == mount["name"]
    settings = start_in_pod("zattredis-0", tmp_path)
    assert settings.dir.startswith(mount["mountPath"] + "/")
    assert pod()["terminationGracePeriodSeconds"] * 1000 > settings.shutdown_timeout_ms
    uid = re.search(r"^USER (\d+):(\d+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert uid is not None
    security = pod()["securityContext"]
    assert (security["runAsUser"], security["fsGroup"]) == (int(uid[1]), int(uid[2]))
    assert security["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not any("value" in variable and ("PASS" in variable["name"] or "SECRET" in variable["name"])
                   for variable in container["env"])  # fmt: skip
