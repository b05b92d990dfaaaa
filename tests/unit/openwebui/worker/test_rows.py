"""The row of a file: its status, and the attempt that owns it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import JSON, BigInteger, Column, MetaData, Table, Text, create_engine, insert, select
from sqlalchemy.engine import Engine

from emberq.errors import Cancelled, FileNotFound
from emberq.openwebui.worker.rows import OpenWebUIFileRows

TABLE = Table(
    "file",
    MetaData(),
    Column("id", Text, primary_key=True),
    *(Column(name, Text) for name in ("user_id", "filename", "path", "hash")),
    *(Column(name, JSON) for name in ("data", "meta")),
    Column("updated_at", BigInteger),
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path}/webui.db")
    TABLE.metadata.create_all(made)
    meta = {"content_type": "text/plain", "data": {"knowledge_id": "k"}}
    row = {
        "id": "f",
        "user_id": "u",
        "filename": "a.txt",
        "data": {"status": "pending", "kept": 1},
        "meta": meta,
    }
    with made.begin() as connection:
        connection.execute(insert(TABLE).values(row))
    yield made
    made.dispose()


@pytest.fixture
def rows(engine: Engine) -> OpenWebUIFileRows:
    return OpenWebUIFileRows(engine, SimpleNamespace(__table__=TABLE))


def _data(engine: Engine) -> dict[str, object]:
    with engine.connect() as connection:
        return dict(connection.execute(select(TABLE.c.data)).scalar_one())


def test_a_file_is_read(rows: OpenWebUIFileRows) -> None:
    file = rows.get("f")
    assert (file.user_id, file.name, file.content_type, file.status) == (
        "u",
        "a.txt",
        "text/plain",
        "pending",
    )
    assert file.metadata == {"knowledge_id": "k"}
    with pytest.raises(FileNotFound):
        rows.get("other")


def test_an_attempt_owns_the_file_until_its_end(rows: OpenWebUIFileRows, engine: Engine) -> None:
    rows.start("f", "one")
    assert _data(engine)["status"] == "processing"
    rows.check_owner("f", "one")
    assert rows.finish("f", "one", status="completed", error=None)
    assert _data(engine) == {"status": "completed", "error": None, "kept": 1}


def test_an_attempt_that_lost_its_file_changes_nothing(rows: OpenWebUIFileRows, engine: Engine) -> None:
    rows.start("f", "one")
    rows.start("f", "two")
    with pytest.raises(Cancelled, match="taken the file over"):
        rows.check_owner("f", "one")
    assert not rows.finish("f", "one", status="failed", error="no")
    assert _data(engine)["status"] == "processing"
    rows.check_owner("f", "two")


def test_a_deleted_file_cancels_the_attempt(rows: OpenWebUIFileRows, engine: Engine) -> None:
    rows.start("f", "one")
    with engine.begin() as connection:
        connection.execute(TABLE.delete())
    with pytest.raises(Cancelled, match="deleted"):
        rows.check_owner("f", "one")
    assert not rows.finish("f", "one", status="completed", error=None)
    assert not rows.exists("f")


def test_only_an_unfinished_file_is_failed(rows: OpenWebUIFileRows, engine: Engine) -> None:
    rows.start("f", "one")
    assert rows.fail_unfinished("f", error="It is over.")
    assert _data(engine) == {"status": "failed", "error": "It is over.", "kept": 1}
    rows.start("f", "two")
    rows.finish("f", "two", status="completed", error=None)
    assert not rows.fail_unfinished("f", error="It is over.")
    assert _data(engine)["status"] == "completed"
