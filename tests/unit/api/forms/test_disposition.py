"""The names of a form's parts, as clients write them."""

from __future__ import annotations

import time

import pytest

from emberq.api.forms.disposition import part_names


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b'filename="a.txt"', "a.txt"),
        (b"filename=a.txt", "a.txt"),
        (b'filename="a b; c=d.txt"', "a b; c=d.txt"),
        (b'filename=""', ""),
        # Browsers, httpx, and curl from 7.81.
        (b'filename="say %22hi%22.txt"', 'say "hi".txt'),
        (b'filename="one%0Atwo%0d%0a.txt"', "one\ntwo\r\n.txt"),
        (b'filename="100%25 of %20.txt"', "100%25 of %20.txt"),
        # Older clients.
        (rb'filename="say \"hi\" \\ there.txt"', 'say "hi" \\ there.txt'),
        # Not an escape: browsers send a backslash as it is.
        (rb'filename="a\b.txt"', "a\\b.txt"),
        (rb'filename="ends with\"', "ends with\\"),
        (rb'filename="C:\folder\a.txt"', "a.txt"),
        (rb'filename="\\server\folder\a.txt"', "a.txt"),
        ('filename="Käse مرحبا.txt"'.encode(), "Käse مرحبا.txt"),
        # RFC 8187, before or after the plain name, or alone.
        (b"filename=\"K_se.txt\"; filename*=UTF-8''K%C3%A4se.txt", "Käse.txt"),
        (b"filename*=utf-8'de'K%C3%A4se.txt; filename=\"K_se.txt\"", "Käse.txt"),
        (b"filename*=utf-8''a%22%0Ab%25.txt", 'a"\nb%.txt'),
        (b"filename*=\"UTF-8''K%C3%A4se.txt\"", "Käse.txt"),
        (b"FileName*=ISO-8859-1''K%E4se.txt", "Käse.txt"),
        # Not well-formed: the plain name is taken.
        (b"filename=\"a.txt\"; filename*=UTF-8''%FF", "a.txt"),
        (b'filename="a.txt"; filename*=b.txt', "a.txt"),
        (b"filename=\"a.txt\"; filename*=utf-7''+AGE-", "a.txt"),
    ],
)
def test_the_name_is_the_one_that_the_client_meant(sent: bytes, name: str) -> None:
    names = part_names(b'form-data; name="file"; ' + sent)
    assert names == {"name": b"file", "filename": name.encode()}


@pytest.mark.parametrize(
    "header",
    [b"", b"form-data", b"form-data;", b"form-data; =x", b'form-data; name="file', b"form-data; ;;; name"],
)
def test_what_is_no_parameter_is_left_out(header: bytes) -> None:
    assert part_names(header) == {}


@pytest.mark.parametrize("piece", [b';a="', b'a="\\"', b'; a="\\', b"; a", b" ", b"';", b'a=";'])
def test_a_long_header_is_read_in_linear_time(piece: bytes) -> None:
    started = time.process_time()
    part_names(b"form-data; " + piece * 200_000)
    assert time.process_time() - started < 5
