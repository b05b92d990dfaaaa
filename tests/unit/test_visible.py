"""Names and messages where people read them: what would not be seen is escaped."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from emberq.api.user_messages import user_message
from emberq.cli.output import print_json, print_table, say
from emberq.errors import CorruptFile
from emberq.telemetry.logs import configure_logs, get_logger
from emberq.visible import host_and_port, visible

HOSTILE = "a\nb\r\x1b[31m\x07\x9b\u202efdp.exe\u200b\u2066\u2028\ufeff\U000e0041\u3164.pdf"
SHOWN = r"a\nb\r\x1b[31m\x07\x9b\u202efdp.exe\u200b\u2066\u2028\ufeff\U000e0041\u3164.pdf"


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """Put the logging of this process back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_hidden_characters_are_escaped() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("\ud800") == r"\ud800"


@pytest.mark.parametrize(
    "name", ["Bericht März.pdf", "報告書\u3000.docx", "تقرير.pdf", "😀.txt", r"C:\new.txt"]
)
def test_other_characters_stay(name: str) -> None:
    assert visible(name) == name


def test_a_text_of_several_lines_may_keep_them() -> None:
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


@given(st.text())
def test_nothing_invisible_is_left(text: str) -> None:
    shown = visible(text)
    assert all(character.isprintable() or character.isspace() for character in shown)
    assert not set(shown) & set("\n\r\t\x0b\x0c\x1c\x85\u2028\u2029")
    assert visible(shown) == shown


def test_the_command_line_shows_names_escaped_and_json_exactly(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["Name"], [[HOSTILE]], empty="")
    assert SHOWN in capsys.readouterr().out
    say(HOSTILE)
    assert capsys.readouterr().out == f"{SHOWN}\n"
    print_json({"name": HOSTILE})
    assert json.loads(capsys.readouterr().out) == {"name": HOSTILE}


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_log_has_one_line_per_record(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    configure_logs(log_format=log_format)
    get_logger("test").warning("file_failed", file=HOSTILE)
    logging.getLogger("other").warning(HOSTILE)
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert not any(set(line) & set("\x1b\u202e\u200b\x9b") for line in lines)
    if log_format == "json":
        assert json.loads(lines[0])["file"] == HOSTILE


def test_a_traceback_keeps_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    configure_logs(log_format="console")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        get_logger("test").exception("failed")
    assert "Traceback" in output.getvalue()
    assert len(output.getvalue().splitlines()) > 3
    assert "\x1b" not in output.getvalue()


def test_the_sentence_for_other_programs_has_one_line() -> None:
    sentence = user_message(CorruptFile(f"{HOSTILE} is damaged."), HOSTILE)
    assert sentence.isprintable()
    assert r"\u202e" in sentence


def test_an_address_is_shown_as_in_a_url() -> None:
    shown = [host_and_port("127.0.0.1", 80), host_and_port("::1", 80), host_and_port("fe80::1", 80)]
    assert shown == ["127.0.0.1:80", "[::1]:80", "[fe80::1]:80"]
