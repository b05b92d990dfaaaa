"""Public files end as they should: `make test-public` fetches them; without them these tests are skipped."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import puremagic
import pytest

from emberq.errors import EmberqError, FileError
from emberq.pipeline.sandbox.run import extract_sandboxed

#: Seconds of processor time within which each file must be read.
SECONDS = 20.0
FOLDER = os.environ.get("EMBERQ_PUBLIC_FILES", "")
SOURCES = sorted(Path(FOLDER).iterdir()) if FOLDER and Path(FOLDER).is_dir() else []

pytestmark = pytest.mark.skipif(not SOURCES, reason="no public files: `make test-public`")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_each_file_is_read_or_refused_for_what_it_is(source: Path, tmp_path: Path) -> None:
    wrong = []
    for name, data in _members(source):
        blob = tmp_path / "blob"
        blob.write_bytes(data)
        try:
            document = extract_sandboxed(
                blob,
                name=Path(name).name,
                timeout_seconds=SECONDS * 10,
                cpu_seconds=SECONDS,
                memory_bytes=1 << 30,
            )
        except FileError:
            continue
        except EmberqError as exc:
            wrong.append(f"{name}: {exc.code}")
            continue
        if document.media_type.startswith("text/") and (kind := _picture_or_archive(data)):
            wrong.append(f"{name}: {kind} was read as {document.media_type}")
    assert not wrong


def _members(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                if info.file_size:
                    yield info.filename, archive.read(info)
        return
    with tarfile.open(source) as tar:
        for member in tar:
            if member.isfile() and member.size:
                found = tar.extractfile(member)
                assert found is not None
                yield member.name, found.read()


def _picture_or_archive(data: bytes) -> str:
    """Return the media type if the bytes have the signature of a picture or an archive."""
    try:
        matches = puremagic.magic_string(data)
    except (puremagic.PureError, ValueError):
        return ""
    # A signature of two bytes is in many a text.
    sure = [one.mime_type for one in matches if len(one.byte_match or b"") > 3]
    return next((kind for kind in sure if kind.startswith("image/") and "svg" not in kind), "")
