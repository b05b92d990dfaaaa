"""A reader whose children run their file as a program, and are not confined: see `hostile_reader`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

from emberq.pipeline.sandbox import child, reader
from emberq.pipeline.sandbox.confinement import Protections
from tests.harness.hostile_reader import run_file


def main(descriptor: int, owner: int) -> NoReturn:
    """Be a reader that gives up nothing; its children only close what is not theirs."""

    def close_others(kept: Sequence[int], *_protections: object, **_limits: object) -> None:
        for below, above in pairwise((2, *sorted(kept), os.sysconf("SC_OPEN_MAX"))):
            os.closerange(below + 1, above)

    def keep_everything(_owner: int) -> Protections:
        return Protections(0, seccomp=False, user=None, is_root=False)

    vars(child)["confine_child"] = close_others
    vars(reader)["confine_reader"] = keep_everything
    reader.main(descriptor, owner, read=run_file)
