"""What every container of the recipes in `deploy/` gives up: rights, a writable root, and the network."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.paths import DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
COMPOSE = yaml.safe_load((DEPLOY / "openwebui" / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: Images that the recipes build themselves; their digests are not known before.
OWN_IMAGES = {"emberq", "open-webui-slim"}
PINNED = re.compile(r"[a-z0-9./-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}")
#: Kinds that have no pods; any other kind must have a pod template that is tested here.
WITHOUT_PODS = {"Namespace", "Service", "PersistentVolumeClaim", "NetworkPolicy", "Kustomization"}


def resources() -> list[dict[str, Any]]:
    """Return everything in the manifests, those that are left out by default included."""
    return [
        part
        for path in sorted(KUBERNETES.glob("*.yaml"))
        if path.name != "open-webui-values.yaml"
        for part in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


PODS = {
    part["metadata"]["name"]: part["spec"]["template"]["spec"]
    for part in resources()
    if part["kind"] not in WITHOUT_PODS
}
CONTAINERS = [
    container for pod in PODS.values() for container in [*pod["containers"], *pod.get("initContainers", [])]
]
#: Parameters of the tests of each.
each_pod = pytest.mark.parametrize("spec", PODS.values(), ids=list(PODS))
each_container = pytest.mark.parametrize(
    "container", CONTAINERS, ids=[container["name"] for container in CONTAINERS]
)


@each_pod
def test_a_pod_runs_under_an_account_without_rights(spec: dict[str, Any]) -> None:
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["runAsGroup"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]


@each_container
def test_a_container_can_gain_nothing(container: dict[str, Any]) -> None:
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not {"privileged", "runAsUser", "seccompProfile", "procMount"} & set(context)


@each_container
def test_a_container_has_limits(container: dict[str, Any]) -> None:
    assert set(container["resources"]["limits"]) >= {"cpu", "memory", "ephemeral-storage"}
    assert set(container["resources"]["requests"]) >= {"cpu", "memory"}


@each_pod
def test_what_a_pod_may_write_is_bounded(spec: dict[str, Any]) -> None:
    for volume in spec["volumes"]:
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"]


@each_container
def test_no_secret_stands_in_the_environment_of_a_pod(container: dict[str, Any]) -> None:
    assert "envFrom" not in container
    for variable in container.get("env", []):
        assert "secretKeyRef" not in variable.get("valueFrom", {})
        assert not re.search(r"://[^/]*:[^/]*@", variable.get("value", ""))


@each_container
def test_an_image_is_pinned(container: dict[str, Any]) -> None:
    assert container["image"] in OWN_IMAGES or PINNED.fullmatch(container["image"])


def test_our_image_is_pinned_by_the_kustomization() -> None:
    settings = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    assert [(image["name"], "digest" in image, "newTag" in image) for image in settings["images"]] == [
        ("emberq", True, False)
    ]


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("Dockerfile")), ids=lambda path: path.parent.name)
def test_an_image_is_built_on_a_pinned_one_and_runs_without_rights(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("FROM "):
            assert PINNED.fullmatch(line.split()[1]), line
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_nothing_is_reached_that_no_policy_names() -> None:
    policies = [part["spec"] for part in resources() if part["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
    for policy in policies:
        for rule in [*policy.get("ingress", []), *policy.get("egress", [])]:
            assert rule["ports"]
            peers = rule.get("from", []) + rule.get("to", [])
            assert peers
            assert {} not in peers
    wide = [name for name, text in _manifests() if "ipBlock" in text]
    assert wide == ["provider-egress.yaml"]
    assert "provider-egress.yaml" not in _included()


def test_each_pod_is_in_the_policies() -> None:
    text = (KUBERNETES / "network.yaml").read_text(encoding="utf-8")
    for name in PODS:
        assert re.search(rf"[ \[]{name}[,\]}}]", text), name


def test_every_manifest_is_included_or_is_an_option() -> None:
    assert {name for name, _ in _manifests()} == {*_included(), "provider-egress.yaml"}


def test_the_cluster_refuses_less() -> None:
    (namespace,) = (part for part in resources() if part["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_only_the_migration_has_the_owners_password() -> None:
    others = {"emberq": "emberq-api", "emberq-migrate": "emberq-owner"}
    for name, spec in PODS.items():
        secrets = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
        assert secrets == {others.get(name, name)}
    for name, service in SERVICES.items():
        sources = {s if isinstance(s, str) else s["source"] for s in service.get("secrets", [])}
        assert ("owner-database-url" in sources) == (name == "migrate")
        assert ("owner-password" in sources) == (name == "postgres")


def test_engines_ask_for_passwords_over_tls() -> None:
    rules = [
        line.split()
        for line in (KUBERNETES / "pg_hba.conf").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert {rule[-1] for rule in rules} == {"scram-sha-256", "reject"}
    assert {rule[0] for rule in rules if rule[-1] != "reject"} == {"local", "hostssl"}
    users = (KUBERNETES / "users.acl").read_text(encoding="utf-8")
    assert users.startswith("user default off\n")
    assert "nopass" not in users
    documented = (DEPLOY.parent / "docs" / "how-to" / "redis-access.md").read_text(encoding="utf-8")
    listed = documented.partition("ACL SETUSER worker on >the-password")[2].partition("```")[0]
    assert set(users.splitlines()[1].split()[4:]) == set(listed.replace("\\", " ").split())
    for arguments in (SERVICES["valkey"]["command"], *_arguments("valkey")):
        assert " --port 0 --tls-port 6379 " in " ".join(arguments)
        assert "--aclfile /run/secrets/users.acl" in " ".join(arguments)
    for arguments in (SERVICES["postgres"]["command"], *_arguments("postgres")):
        assert {"-cssl=on", "-chba_file=/etc/postgresql/pg_hba.conf"} <= set(arguments)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_gain_nothing(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert {"mem_limit", "cpus", "pids_limit", "networks"} <= set(service)
    assert service["image"] in OWN_IMAGES or PINNED.fullmatch(service["image"])
    assert not [mount for mount in service.get("volumes", []) if "docker.sock" in mount]
    for tmpfs in service.get("tmpfs", []):
        assert "size=" in tmpfs
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_only_the_api_and_open_webui_have_a_way_out() -> None:
    assert COMPOSE["networks"]["engines"] == {"internal": True}
    outside = {name for name, service in SERVICES.items() if "front" in service["networks"]}
    assert outside == {"emberq", "open-webui", "watch"}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the script that makes the secrets."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    folder = tmp_path_factory.mktemp("secrets") / "secrets"
    for _ in range(2):
        subprocess.run(["sh", DEPLOY / "make_secrets.sh", folder], check=True, capture_output=True)
    return folder


def test_the_secrets_are_whole_and_private(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o077 == 0
    assert (secrets / "tls" / "ca.key").stat().st_mode & 0o077 == 0
    passwords = [path.read_text(encoding="ascii") for path in secrets.glob("*-password")]
    assert len({*passwords}) == len(passwords) == 6
    assert min(map(len, passwords)) == 48
    assert "THE-PASSWORD" not in (secrets / "users.acl").read_text(encoding="ascii")
    for role in ("owner", "api", "worker"):
        url = (secrets / role / "EMBERQ_DATABASE_URL").read_text(encoding="ascii")
        assert re.fullmatch(
            rf"postgresql://emberq_{role}:\w{{48}}@postgres/emberq\?sslmode=verify-full&.*", url
        )
    wanted = {path for secret in COMPOSE["secrets"].values() for path in [secret["file"]]}
    assert [path for path in wanted if not (secrets.parent / path).is_file()] == []


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_the_certificates_are_valid_for_their_servers(secrets: Path, server: str) -> None:
    tls = secrets / "tls"
    client = ssl.create_default_context(cafile=str(tls / "ca.crt"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / f"{server}.crt", tls / f"{server}.key")
    assert _shake_hands(client, context, server)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(client, context, "elsewhere")


def test_the_manifests_fit_together(secrets: Path, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl")
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes", ignore=shutil.ignore_patterns("secrets"))
    shutil.copytree(secrets, tmp_path / "kubernetes" / "secrets")
    command = ["kubectl", "kustomize", str(tmp_path / "kubernetes")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    built = list(yaml.safe_load_all(done.stdout))
    names = {(part["kind"], part["metadata"]["name"]) for part in built}
    for part in built:
        for volume in part.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", []):
            if "secret" in volume:
                assert ("Secret", volume["secret"]["secretName"]) in names
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    """Do a TLS handshake in memory; return whether it was completed."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = server.wrap_bio(up, down, server_side=True)
    done = {ours: False, theirs: False}
    for _ in range(4):
        for side in done:
            try:
                side.do_handshake()
                done[side] = True
            except ssl.SSLWantReadError:
                continue
    return all(done.values())


def _arguments(app: str) -> list[list[str]]:
    return [container["args"] for container in CONTAINERS if container["name"] == app]


def _manifests() -> list[tuple[str, str]]:
    return [
        (path.name, path.read_text(encoding="utf-8"))
        for path in KUBERNETES.glob("*.yaml")
        if path.name not in ("kustomization.yaml", "open-webui-values.yaml")
    ]


def _included() -> list[str]:
    settings = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    return list(settings["resources"])
