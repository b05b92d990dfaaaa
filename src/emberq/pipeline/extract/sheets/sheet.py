"""Binary workbooks (XLSB, XLS), read by calamine, which reads values and computes no formulas."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

import python_calamine

from emberq.errors import CorruptFile, EncryptedFile
from emberq.pipeline.extract.builder import DocumentBuilder
from emberq.pipeline.extract.packed.archive import count_unpacked, open_archive

#: The first bytes of a ZIP container; only the old binary workbooks are not one.
_ZIP: Final = b"PK\x03\x04"


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a workbook; its pages are the sheets, and their names are headings.

    Returns:
        The number of sheets.

    Raises:
        ArchiveBomb: If the file would unpack to far more than a document has.
        CorruptFile: If the file is damaged.
        EncryptedFile: If the file is protected by a password.
    """
    if stream.read(len(_ZIP)) == _ZIP:
        # calamine unpacks by itself and counts nothing.
        with open_archive(stream, build.meter) as archive:
            count_unpacked(stream, archive, build.meter)
    stream.seek(0)
    try:
        with python_calamine.CalamineWorkbook.from_filelike(stream) as workbook:
            sheets = workbook.sheets_metadata
            if not sheets:
                raise CorruptFile("The workbook is damaged: it has no sheets.")
            names = [
                sheet.name
                for sheet in sheets
                if sheet.typ == python_calamine.SheetTypeEnum.WorkSheet
                and (build.meter.limits.hidden or sheet.visible == python_calamine.SheetVisibleEnum.Visible)
            ]
            for number, name in enumerate(names, 1):
                build.page = number
                _write_sheet(name, workbook.get_sheet_by_name(name), build)
                progress(number, len(names))
    except python_calamine.PasswordError as exc:
        raise EncryptedFile("The workbook is protected by a password.") from exc
    except python_calamine.CalamineError as exc:
        raise CorruptFile(f"The workbook is damaged: {exc}.") from exc
    return len(names)


def _write_sheet(name: str, sheet: python_calamine.CalamineSheet, build: DocumentBuilder) -> None:
    rows = _rows(sheet)
    first = next(rows, None)
    # The name of an empty sheet, such as `Sheet1`, is not text.
    if first is None:
        return
    build.heading(name, 1)
    build.table(_chain(first, rows))


def _chain(first: list[str], rest: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rest


def _rows(sheet: python_calamine.CalamineSheet) -> Iterator[list[str]]:
    """Yield the rows that are not empty."""
    for row in sheet.iter_rows():
        cells = [_cell(value) for value in row]
        if any(cells):
            yield cells


def _cell(value: Any) -> str:
    """Return a value as a person would type it."""
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            # A workbook stores 15 digits exactly.
            return f"{value:.15g}"
        case dt.datetime() if value.time() == dt.time():
            return value.date().isoformat()
        case dt.datetime():
            return value.isoformat(" ", "seconds")
        case _:
            return str(value)
