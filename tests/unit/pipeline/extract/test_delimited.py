"""Text is taken for a table only if it is one, and its columns are found."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from emberq.pipeline.document import SegmentKind
from emberq.pipeline.extract import media
from emberq.pipeline.extract.detect import detect
from emberq.pipeline.extract.read import extract
from emberq.pipeline.extract.text.delimited import find_delimiter

NUMBERS = range(10)

TABLES = {
    "decimal commas under names": (
        ";",
        "Name;Ort;Betrag\n" + "".join(f"Muster{n}, Erika;Kassel, Mitte;1{n},50\n" for n in NUMBERS),
    ),
    "decimal commas only": (";", "1,5;2,5\n3,5;4,5\n1,1;2,2\n"),
    "money with thousands": (";", "Datum;Betrag\n" + "01.02.2026;-1.234,56 €\n" * 3),
    "addresses": (
        ";",
        "id;address;url\n" + "".join(f"{n};Main St {n}, Town;http://x/{n}\n" for n in NUMBERS),
    ),
    "words with commas": (";", "name;note\nA;x, y and z, w\nB;p, q and r, s\nC;t, u and v, w\n"),
    "lists in cells": (",", "id,tags,n\n" + "".join(f"{n},a;b;c,{n}\n" for n in NUMBERS)),
    "pipes": ("|", "a|b|c\n1|x, y|3\n2|z, w|4\n"),
    "pipes around decimal commas": ("|", "1,5|2,5\n3,5|4,5\n1,1|2,2\n"),
    "tabs": ("\t", "a\tb\n1,5\tx;y\n2,5\tz\n3\tu\n"),
    "quoted line ends and quotes": (
        ";",
        'Nr;Text;Preis\n1;"erste\nzweite";10\n2;"sagt ""hallo""; dann";20\n3;normal;30\n',
    ),
    "quoted delimiters": (",", "a,b\n" + '"1,000","2,000"\n' * 5),
    "spaces after commas": (",", "name, age, city\nAnna, 5, Rome\nBob, 6, Oslo\nEve, 7, Bonn\n"),
    "a title above": (";", "Report 2026\n\nName;Ort;Betrag\nA;B;1\nC;D;2\nE;F;3\nG;H;5\n"),
    "a delimiter by name": ("|", "sep=|\na|b\n1|2\n"),
    "readings of a sensor": (",", "".join(f"2026-01-01 10:0{n}:00,{n}.5,{n}\n" for n in NUMBERS)),
    "events under names": (
        ",",
        "time,level,message\n" + "".join(f"2026-01-01 10:0{n}:00,INFO,begun {n}\n" for n in NUMBERS),
    ),
}

NO_TABLES = {
    "a log of Python": "".join(
        f'2026-09-12 18:00:0{n},10{n} INFO worker-{n} boot ok "queue"\n' for n in NUMBERS
    ),
    "a log with pipes": "".join(
        f"2026-09-12 18:00:0{n}.100 | INFO     | mod:fn:{n} - done\n" for n in NUMBERS
    ),
    "a log with commas": "".join(f"2026-09-12 18:00:0{n} INFO got a, b and c, d{n}\n" for n in NUMBERS),
    "a log in brackets": "".join(f"[2026-09-12T18:00:0{n}Z] begun a,b\n" for n in NUMBERS),
    "a web server's log": "".join(
        f'127.0.0.1 - - [10/Oct/2026:13:55:0{n} +0000] "GET /a" 200 "Mozilla (X11; Linux) (a, like b)"\n'
        for n in NUMBERS
    ),
    "a system's log": "".join(f"Sep 12 18:00:0{n} host sshd[12]: from root, port {n}\n" for n in NUMBERS),
    "prose": "He came, saw, and left.\nShe sat, thought, and read.\nThey ran, fell, and rose.\n",
    "advice": "First, we go.\nThen, we eat.\nLast, we sleep.\n",
}


@pytest.mark.parametrize(("delimiter", "text"), TABLES.values(), ids=TABLES)
def test_the_columns_of_a_table_are_found(delimiter: str, text: str) -> None:
    assert find_delimiter(text) == delimiter


@pytest.mark.parametrize("text", NO_TABLES.values(), ids=NO_TABLES)
def test_logs_and_prose_are_no_tables(tmp_path: Path, text: str) -> None:
    assert find_delimiter(text) is None
    path = tmp_path / "blob"
    path.write_text(text)
    assert detect(path, name="a.log") == media.TEXT
    assert extract(path, media_type=media.TEXT).text.strip() == text.strip()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_the_line_that_names_the_delimiter_is_no_row(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "blob"
    path.write_bytes("sep=;\r\nName;Größe\r\nAnna;1,70\r\n".encode(encoding))

    assert detect(path, name="a.csv") == media.CSV
    document = extract(path, media_type=media.CSV)
    assert document.text == "Name | Größe\nAnna | 1,70"
    assert [segment.kind for segment in document.segments] == [SegmentKind.TABLE]


@pytest.mark.parametrize(
    "text", ["00:00" * 12_000 + ",1\n", "1" * 60_000 + ",a\n" * 2, "a,\n" * 20_000, '"' * 60_000]
)
def test_odd_text_is_judged_at_once(text: str) -> None:
    started = time.process_time()

    find_delimiter(text)

    assert time.process_time() - started < 2
