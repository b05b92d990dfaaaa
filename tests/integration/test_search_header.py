"""A row of a table is found by the names of its columns, and shown with them."""

from __future__ import annotations

from pathlib import Path

from emberq.models.embedder import Embedder
from emberq.models.files import find_model
from emberq.pipeline.extract import media
from emberq.pipeline.extract.read import extract
from emberq.pipeline.split import embedding_text, split
from emberq.store.files.commit import ChunkValues, commit_file
from emberq.store.files.search import keyword_search, vector_search
from emberq.store.services import Services
from tests.integration.store.steps import add, claim, collection_of


def test_rows_are_found_by_the_names_of_their_columns(services: Services, tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    rows = "".join(f"1{n:04};Fulda;{n}00\n" for n in range(300))
    table.write_text(f"Customer;Town;Creditlimit\n{rows}")
    document = extract(table, media_type=media.CSV)
    embedder = Embedder.load(find_model())
    chunks = split(document, embedder.tokenizer, chunk_size=200, chunk_overlap=0)
    texts = [embedding_text(chunk, embedder.tokenizer, max_tokens=embedder.max_tokens) for chunk in chunks]
    vectors = embedder.embed(texts)
    collection = collection_of(services)["id"]
    attempt = claim(services, add(services).job_id)
    with services.database.tenant_transaction("default") as connection:
        commit_file(
            connection,
            attempt,
            text=document.text,
            media_type=media.CSV,
            page_count=None,
            chunks=[
                ChunkValues(
                    *(chunk.ordinal, chunk.text, chunk.start, chunk.end, None, None, bytes([chunk.ordinal])),
                    embedding=vector,
                    header=chunk.header,
                )
                for chunk, vector in zip(chunks, vectors, strict=True)
            ],
            timings={},
        )
        found = keyword_search(connection, collection, "creditlimit of 10250", limit=1)
        near = vector_search(connection, collection, embedder.embed([texts[-1]])[0], limit=1)

    assert all("Creditlimit" in text for text in texts)
    (hit,) = found
    assert "10250" in hit.text
    assert hit.header == "Customer | Town | Creditlimit"
    assert hit.shown_text == f"Customer | Town | Creditlimit\n{hit.text}"
    assert hit.text == document.text[hit.start : hit.end]
    assert near[0].text == chunks[-1].text
