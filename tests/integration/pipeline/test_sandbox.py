"""Files are read in processes of their own, whose every end has its name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from emberq.errors import (
    ArchiveBomb,
    BlobMissing,
    CorruptFile,
    EmberqError,
    EmptyFile,
    EncryptedFile,
    ExtractionCrashed,
    ExtractionTimeout,
    MemoryLimitExceeded,
    NoTextFound,
    StorageUnavailable,
    UnsupportedMediaType,
)
from emberq.pipeline.document import Document
from emberq.pipeline.sandbox import run
from emberq.pipeline.sandbox.reader_handle import get_reader
from emberq.pipeline.sandbox.run import extract_sandboxed
from tests.harness import sample_files as files
from tests.harness.eventually import LIMIT_SECONDS, eventually, scaled
from tests.harness.legacy_texts import LEGACY_TEXTS

MIB = 1 << 20

#: More paragraphs than a reader gets through in a second.
SLOW = b"<html><body>" + b"<p>Some words &amp; more of them</p>\n" * 600_000

BAD = {
    "empty": (b"", EmptyFile),
    "a picture": (files.PNG, UnsupportedMediaType),
    "a cut PDF": (files.make_pdf()[:1500], CorruptFile),
    "a cut DOCX": (files.make_docx()[:3000], CorruptFile),
    "a locked PDF": (files.make_pdf(password="secret"), EncryptedFile),
    "a locked DOCX": (files.make_ole("EncryptionInfo", "EncryptedPackage"), EncryptedFile),
    "a scan": (files.make_scan(), NoTextFound),
    "an archive bomb": (files.make_bomb(), ArchiveBomb),
}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No child, no child of the reader and no descriptor more than before."""
    me = psutil.Process()
    get_reader()
    before = len(me.children()), me.num_fds()
    yield
    eventually(lambda: not psutil.Process(get_reader().pid).children())
    assert (len(me.children()), me.num_fds()) == before


def put(path: Path, data: bytes) -> Path:
    blob = path / "blob"
    blob.write_bytes(data)
    return blob


def read(blob: Path, *, name: str = "file", seconds: float = 60, memory: int = 512 * MIB) -> Document:
    return extract_sandboxed(blob, name=name, timeout_seconds=seconds, memory_bytes=memory)


def children_of_reader() -> list[psutil.Process]:
    """Return the process that reads a file; none if it has just ended."""
    children: list[psutil.Process] = psutil.Process(get_reader().pid).children()
    return children


def pdf_bomb(size: int) -> bytes:
    """Write a PDF whose only page unpacks to this many bytes."""
    page = zlib.compress(b"BT (a) Tj ET\n" + b" " * size, 9)
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(page), page),
    )
    body = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return body + (
        b"xref\n0 5\n0000000000 65535 f \n%strailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
        % (table, len(body))
    )


@pytest.mark.parametrize("media_type", files.EVERY_FORMAT)
def test_every_format_comes_back_whole(tmp_path: Path, media_type: str) -> None:
    make, word = files.EVERY_FORMAT[media_type]

    document = read(put(tmp_path, make()), name="wrong.bin")

    assert document.media_type == media_type
    assert word in document.text


def test_text_in_any_encoding_is_read_by_a_child_that_can_open_nothing(tmp_path: Path) -> None:
    wrong = [
        (one.language, one.encoding)
        for one in LEGACY_TEXTS
        if "iso2022" not in one.encoding
        if read(put(tmp_path, one.text.encode(one.encoding))).text.strip() != one.text.strip()
    ]

    assert wrong == []


@pytest.mark.parametrize(("data", "error"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_has_its_own_error_and_the_next_is_read(
    tmp_path: Path, data: bytes, error: type[EmberqError]
) -> None:
    blob = put(tmp_path, data)

    with pytest.raises(error) as caught:
        read(blob)

    assert type(caught.value) is error
    assert caught.value.hint
    assert "naïve" in read(put(tmp_path, files.TEXT)).text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlobMissing, match=r"report\.pdf"):
        read(tmp_path / "gone", name="report.pdf")


def test_a_store_that_does_not_tell_is_no_failure_of_the_file(tmp_path: Path) -> None:
    unreachable = tmp_path / ("a" * 300)  # more than a file system takes for a name
    with pytest.raises(StorageUnavailable, match=r"report\.pdf"):
        read(unreachable, name="report.pdf")


def test_a_slow_file_ends_at_its_time(tmp_path: Path) -> None:
    blob = put(tmp_path, SLOW)
    with pytest.raises(ExtractionTimeout):
        read(blob, seconds=0.5)


def test_a_file_that_needs_more_memory_is_named(tmp_path: Path) -> None:
    with pytest.raises(MemoryLimitExceeded):
        read(put(tmp_path, b"many words here\n" * (16 * MIB)), memory=100 * MIB)


def test_native_code_that_aborts_for_want_of_memory_is_named(tmp_path: Path) -> None:
    with pytest.raises(MemoryLimitExceeded):
        read(put(tmp_path, pdf_bomb(300 * MIB)), memory=256 * MIB)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_named_and_the_next_file_is_read_by_another_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    readers: list[int] = []

    def strike(_done: int, _total: int) -> None:
        # More progress of a child that was struck may be on its way.
        for reader in children_of_reader():
            readers.append(reader.pid)
            if len(readers) == 1:
                reader.send_signal(number)

    # Enough pages that it is struck before its answer is on the way.
    blob = put(tmp_path, files.make_pdf(*[["Some words. " * 200]] * 150))
    with pytest.raises(ExtractionCrashed, match=number.name):
        extract_sandboxed(blob, name="a.pdf", timeout_seconds=60, memory_bytes=512 * MIB, progress=strike)
    document = extract_sandboxed(
        blob, name="a.pdf", timeout_seconds=60, memory_bytes=512 * MIB, progress=strike
    )

    assert document.page_count == 150
    assert len(set(readers)) == 2


def test_an_error_while_waiting_ends_the_child(tmp_path: Path) -> None:
    class StopIt(Exception):
        pass

    def stop(_done: int, _total: int) -> None:
        raise StopIt

    blob = put(tmp_path, files.make_pdf(*[["Some words. " * 200]] * 50))

    with pytest.raises(StopIt):
        extract_sandboxed(blob, name="a.pdf", timeout_seconds=60, memory_bytes=512 * MIB, progress=stop)


def test_a_signal_while_waiting_ends_the_child(tmp_path: Path) -> None:
    class Alarm(Exception):
        pass

    def ring(_number: int, _frame: object) -> None:
        raise Alarm

    blob = put(tmp_path, SLOW)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Alarm):
            read(blob)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_child_does_not_outlive_its_killed_horse(tmp_path: Path) -> None:
    blob = put(tmp_path, SLOW)
    horse = os.fork()
    if not horse:
        try:
            read(blob)
        finally:
            os._exit(0)
    try:
        child = eventually(lambda: psutil.Process(get_reader().pid).children())[0]
        # It yields to what answers requests.
        eventually(lambda: child.nice() > psutil.Process().nice())
    finally:
        os.kill(horse, signal.SIGKILL)
        os.waitpid(horse, 0)

    psutil.wait_procs([child], timeout=LIMIT_SECONDS)
    assert not child.is_running()


def test_a_file_is_read_again_when_the_reader_dies(tmp_path: Path) -> None:
    """Also the file that is being read then."""
    readers: list[int] = []

    def strike(_done: int, _total: int) -> None:
        readers.append(get_reader().pid)
        if len(readers) == 1:
            os.kill(readers[0], signal.SIGKILL)

    blob = put(tmp_path, files.make_pdf(*[["Some words. " * 200]] * 150))
    document = extract_sandboxed(
        blob, name="a.pdf", timeout_seconds=60, memory_bytes=512 * MIB, progress=strike
    )

    assert document.page_count == 150
    assert len(set(readers)) == 2
    assert "words" in read(blob).text


def test_a_process_that_is_forked_after_the_death_of_the_reader_shares_the_next_one() -> None:
    dead = psutil.Process(get_reader().pid)
    dead.kill()
    dead.wait(LIMIT_SECONDS)

    horse = os.fork()
    if not horse:
        os._exit(get_reader().started_by != os.getppid())

    assert os.waitstatus_to_exitcode(os.waitpid(horse, 0)[1]) == 0
    assert get_reader().pid != dead.pid


def test_a_file_that_ends_every_reader_is_named(tmp_path: Path) -> None:
    def strike(_done: int, _total: int) -> None:
        os.kill(get_reader().pid, signal.SIGKILL)

    blob = put(tmp_path, files.make_pdf(*[["Some words. " * 200]] * 150))
    with pytest.raises(ExtractionCrashed, match="lost 2 times"):
        extract_sandboxed(blob, name="a.pdf", timeout_seconds=60, memory_bytes=512 * MIB, progress=strike)

    assert "words" in read(blob).text


def test_a_reader_that_does_not_answer_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_START_SECONDS", 0.5)
    stopped = psutil.Process(get_reader().pid)
    stopped.suspend()

    assert "naïve" in read(put(tmp_path, files.TEXT)).text
    assert get_reader().pid != stopped.pid


def test_the_reader_ends_with_its_owner(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from emberq.pipeline.sandbox.reader_handle import get_reader\n"
        "print(get_reader().pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path)
    with owner:
        assert owner.stdout is not None
        reader = psutil.Process(int(next(line for line in owner.stdout if line.strip().isdigit())))
        owner.kill()
    psutil.wait_procs([reader], timeout=LIMIT_SECONDS)
    assert not reader.is_running()


def test_twenty_files_leave_nothing_behind(tmp_path: Path) -> None:
    blob = put(tmp_path, files.TEXT)

    assert len({read(blob) for _ in range(20)}) == 1


def write_sentences(path: Path, megabytes: int) -> Path:
    blob = path / "blob"
    with blob.open("wb") as file:
        for _ in range(megabytes):
            file.write(b"The queue holds the tickets, the database the truth.\n" * (MIB // 53))
    return blob


def test_a_large_text_needs_memory_and_time_in_proportion(tmp_path: Path) -> None:
    blob = write_sentences(tmp_path, 50)
    started = time.monotonic()

    document = read(blob, memory=200 * MIB)

    assert len(document.text) == blob.stat().st_size
    assert time.monotonic() - started < scaled(120)


def test_a_text_of_300_megabytes_is_refused_by_the_limit_on_memory(tmp_path: Path) -> None:
    blob = write_sentences(tmp_path, 300)
    started = time.monotonic()

    with pytest.raises(MemoryLimitExceeded):
        read(blob, memory=400 * MIB)

    assert time.monotonic() - started < scaled(120)
    blob.unlink()
