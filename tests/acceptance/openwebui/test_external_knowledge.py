"""emberq's collections in a real Open WebUI: its pgvector connection reads the view that emberq makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from emberq.models.pins import DEFAULT_MODEL
from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.openwebui.sidecar.errors import OpenWebUIRefused
from emberq.pipeline.resources import get_embedder
from tests.acceptance.openwebui.conftest import Peer
from tests.harness.paths import CORPUS, EMBERQ
from tests.harness.processes import run_program
from tests.harness.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUESTION = "why freeze the garbage collector before forking"
BEST = "fork-copy-on-write-memory.pdf"


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An emberq with two collections."""
    with Stack(tmp_path_factory.mktemp("emberq") / "data").start() as stack:
        for name, files in {
            "memory": [BEST, "zip-bombs-and-sandboxing.md"],
            "other": ["zip-bombs-and-sandboxing.md"],
        }.items():
            stack.cli("ingest", *(str(CORPUS / file) for file in files), "-c", name)
        yield stack


def apply(stack: Stack, *arguments: str) -> dict[str, Any]:
    done = run_program(
        *(EMBERQ, "openwebui", "external-knowledge", "--apply", "--json", *arguments),
        environment={**stack.environment, "EMBERQ_DATA_DIR": str(stack.data_dir)},
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def search_as_open_webui(
    webui: OpenWebUIClient, source: dict[str, Any], query: str, count: int = 3
) -> dict[str, Any]:
    found: dict[str, Any] = webui.post(
        "/api/v1/knowledge/external/source/test", {**source, "query": query, "count": count}
    )
    return found


@pytest.fixture
def birds(shelves: Stack) -> Iterator[str]:
    """The name of a third collection, which no other test uses."""
    yield "birds"
    with shelves.http() as client:
        client.delete("/api/v1/collections/birds").raise_for_status()


@pytest.fixture
def as_emberq_embeds(peer: Peer) -> None:
    """Let the stand-in answer with the vectors of emberq's own model."""
    embedder = get_embedder(DEFAULT_MODEL)
    peer.vector = lambda text: [float(one) for one in embedder.embed([text])[0]]


@pytest.mark.parametrize("indexed", [False, True])
def test_open_webui_finds_what_emberq_finds(
    shelves: Stack, webui: OpenWebUIClient, as_emberq_embeds: None, indexed: bool
) -> None:
    made = apply(shelves, *(["--indexed"] if indexed else []))
    assert {source["name"] for source in made["sources"]} == {"memory", "other"}
    (source,) = (one for one in made["sources"] if one["name"] == "memory")
    found = search_as_open_webui(webui, source, QUESTION)
    with shelves.http() as client:
        body = {"query": QUESTION, "k": 3, "mode": "vector"}
        ours = client.post("/api/v1/collections/memory/search", json=body).json()["results"]
    assert found["documents"] == [hit["text"] for hit in ours]
    assert found["metadatas"][0]["name"] == ours[0]["file"]["name"] == BEST
    assert found["metadatas"][0]["page"] == ours[0]["page"] - 1
    assert [1 - one for one in found["distances"]] == pytest.approx([hit["score"] for hit in ours], abs=1e-3)
    knowledge = webui.post(
        "/api/v1/knowledge/external/source/create",
        {**source, "name": f"memory, {indexed}", "test_query": QUESTION},
    )
    assert knowledge["meta"]["external"]["source"]["name"] == "memory"
    (listed,) = webui.knowledge_named(f"memory, {indexed}")
    assert listed.is_external


def test_only_the_named_collection_is_there(
    shelves: Stack, webui: OpenWebUIClient, as_emberq_embeds: None
) -> None:
    made = apply(shelves, "--collection", "other")
    (source,) = made["sources"]
    assert search_as_open_webui(webui, source, QUESTION)["documents"]
    source["source"]["name"] = "memory"
    assert not search_as_open_webui(webui, source, QUESTION)["documents"]


def test_a_deleted_file_and_a_foreign_tenant_are_not_found(
    shelves: Stack, webui: OpenWebUIClient, as_emberq_embeds: None, birds: str, tmp_path: Path
) -> None:
    note = tmp_path / "heron.txt"
    note.write_text("The grey heron stands still in shallow water.")
    shelves.cli("ingest", str(note), "-c", birds)
    made = apply(shelves)
    (source,) = (one for one in made["sources"] if one["name"] == birds)
    assert search_as_open_webui(webui, source, "heron")["documents"] == [note.read_text()]
    note.write_text("The kingfisher dives from a branch.")
    shelves.cli("ingest", str(note), "-c", birds)
    assert search_as_open_webui(webui, source, "heron")["documents"] == [note.read_text()]
    with shelves.http() as client:
        (file,) = client.get(f"/api/v1/collections/{birds}/files").json()["items"]
        client.delete(f"/api/v1/files/{file['id']}").raise_for_status()
    assert search_as_open_webui(webui, source, "heron")["documents"] == []
    foreign = apply(shelves, "--tenant", "another tenant")
    assert foreign["sources"] == []
    assert foreign["role"] != made["role"]
    source["connection"]["endpoint"] = foreign["endpoint"]
    source["source"]["name"] = "memory"
    with pytest.raises(OpenWebUIRefused):
        search_as_open_webui(webui, source, QUESTION)


def test_the_role_may_read_its_view_and_nothing_else(shelves: Stack) -> None:
    made = apply(shelves)
    address = urlsplit(made["endpoint"])
    assert address.username == made["role"]
    assert parse_qs(address.query)["host"]
    view = made["sources"][0]["source"]["config"]["table_name"]
    with psycopg.connect(made["endpoint"], autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM document_chunk").fetchone() != (0,)
        for forbidden in (
            "SELECT * FROM chunks",
            "SELECT * FROM api_keys",
            "SELECT * FROM settings",
            f"CREATE TABLE {made['role']}.mine (a int)",
            "CREATE TABLE public.mine (a int)",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                connection.execute(forbidden.encode())
        connection.execute("SET default_transaction_read_only = off")
        for change in (f"DELETE FROM {view}", "CREATE TABLE public.mine (a int)"):
            with pytest.raises(
                (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)
            ):
                connection.execute(change.encode())


def test_the_sql_for_a_dba_names_no_password(shelves: Stack) -> None:
    printed = shelves.cli("openwebui", "external-knowledge", "--tenant", "a'cme; DROP").stdout
    assert "CHOOSE-A-PASSWORD" in printed
    assert "'a''cme; DROP'" in printed
    assert '"emberq_openwebui_a_cme__drop"' in printed
