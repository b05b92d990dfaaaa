"""The allow-list of a worker: the functions that jobs and their callbacks may name.

A job is data that came over Redis, and RQ calls whatever function it names. With an allow-list a worker
calls only what its operator named.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Self

from rq.serializers import DefaultSerializer

from emberq.entry_points import WARMUP_JOB

#: Longest name of a function.
_LONGEST_NAME = 300
#: Classes of values that a pickled job may contain: they run no code of others when they are made.
_PLAIN_VALUES = frozenset(
    {
        *(("builtins", name) for name in ("bytearray", "complex", "frozenset", "range", "set", "slice")),
        *(("collections", name) for name in ("Counter", "OrderedDict", "deque")),
        *(("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(("pathlib", name) for name in ("Path", "PosixPath", "PurePath", "PurePosixPath")),
        ("decimal", "Decimal"),
        ("fractions", "Fraction"),
        ("uuid", "UUID"),
        ("zoneinfo", "ZoneInfo._unpickle"),
    }
)


@dataclass(frozen=True, slots=True)
class AllowList:
    """The names of functions that a worker may call.

    Attributes:
        patterns: Dotted names; `*` stands for one part of a name, at its end.
        tickets: The functions whose jobs carry arguments and callbacks only: what else Redis has of such a
            job is not read.
    """

    patterns: tuple[str, ...]
    tickets: frozenset[str] = frozenset()

    @classmethod
    def of(cls, patterns: Iterable[str], *, tickets: Collection[str] = ()) -> Self:
        """Make a list.

        Raises:
            ValueError: If a pattern is not a dotted name, with or without `*` as its last part.
        """
        for pattern in patterns:
            module, _, name = pattern.rpartition(".")
            if not module or not all(part.isidentifier() for part in module.split(".")):
                msg = f"EMBERQ_ALLOW: {pattern!r} is not a function's dotted name."
                raise ValueError(msg)
            if name != "*" and not name.isidentifier():
                msg = f"EMBERQ_ALLOW: {pattern!r} has a last part that is neither a name nor `*`."
                raise ValueError(msg)
        return cls((*patterns, WARMUP_JOB), frozenset(tickets))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Make a list from the value of EMBERQ_ALLOW, names with commas between them; None without any."""
        patterns = [pattern.strip() for pattern in text.split(",") if pattern.strip()]
        return cls.of(patterns) if patterns else None

    def allows(self, name: str) -> bool:
        """Tell whether a function of this name may be called.

        `package.tasks.*` allows `package.tasks.send`, but neither `package.tasks.os.system`, which RQ would
        find through an import of that module, nor `package.tasks.deep.send`.
        """
        if len(name) > _LONGEST_NAME or not all(part.isidentifier() for part in name.split(".")):
            return False
        module = name.rpartition(".")[0]
        return name in self.patterns or bool(module and f"{module}.*" in self.patterns)

    def allows_found(self, name: str, function: object) -> bool:
        """Tell whether what an allowed name leads to may be called.

        A pattern with `*` allows what its module defines, not what that module imports.
        """
        if name in self.patterns:
            return True
        return getattr(function, "__module__", None) == name.rpartition(".")[0]


class AllowedPickle:
    """RQ's default serializer, reading only values of plain classes and of allowed names.

    Unpickling calls what the bytes name, so the names are checked while they are read.
    """

    def __init__(self, allow: AllowList) -> None:
        """Take the list of what may be named besides plain values."""
        self._allow = allow

    def dumps(self, value: Any) -> bytes:
        """Write a value as RQ does."""
        return DefaultSerializer.dumps(value)

    def loads(self, data: bytes) -> Any:
        """Read a value.

        Raises:
            pickle.UnpicklingError: If it names a class or function that is not allowed.
        """
        return _Unpickler(io.BytesIO(data), self._allow).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allow: AllowList) -> None:
        super().__init__(file)
        self._allow = allow

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN_VALUES:
            return super().find_class(module, name)
        if (module, name) == ("copyreg", "_reconstructor"):
            # Old pickles make objects with it; the classes they name are checked here as well.
            return copyreg._reconstructor  # type: ignore[attr-defined]  # noqa: SLF001 - the only way to it
        full = f"{module}.{name}"
        if self._allow.allows(full):
            found = super().find_class(module, name)
            if self._allow.allows_found(full, found):
                return found
        msg = f"{full[:_LONGEST_NAME]!a} is not allowed in a job"
        raise pickle.UnpicklingError(msg)


def shown(name: object) -> str:
    """Return a name from Redis for a log: one line of ASCII, of bounded length."""
    text = name if isinstance(name, str) else repr(name)[: 2 * _LONGEST_NAME]
    return re.sub(r"[^\x20-\x7e]", "?", text)[:_LONGEST_NAME]
