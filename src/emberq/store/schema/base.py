"""The base class of all tables, and server defaults."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, DateTime, Double, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase

#: Server defaults: the time of the transaction, and an empty JSON object.
NOW: Final = func.now()
NO_JSON: Final = text("'{}'::jsonb")


class Base(DeclarativeBase):
    """The base class of all tables; times are aware UTC, ids are UUIDv4 made by the program."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own form
        dict[str, Any]: JSONB,
        float: Double,
        list[str]: ARRAY(Text),
        list[int]: ARRAY(BigInteger),
        datetime: DateTime(timezone=True),
        str: Text,
        int: BigInteger,
    }
