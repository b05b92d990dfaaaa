"""Each media type that is read has its row in the table of formats, and only those have one."""

from __future__ import annotations

from emberq.pipeline.extract import media
from emberq.pipeline.extract.formats import FORMATS
from emberq.pipeline.extract.read import MEDIA_TYPES


def test_each_media_type_has_one_row_and_a_reader() -> None:
    listed = [kind for one in FORMATS for kind in one.types]
    named = {value for name, value in vars(media).items() if name.isupper()}

    assert len(listed) == len(set(listed))
    assert set(listed) == MEDIA_TYPES == named


def test_names_and_endings_are_there() -> None:
    for one in FORMATS:
        assert one.name
        assert one.suffixes
        assert one.told_by
        assert one.kept
