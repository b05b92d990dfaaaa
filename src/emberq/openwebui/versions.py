"""The versions of Open WebUI that emberq is tested with."""

from __future__ import annotations

from typing import Final

#: The worker calls functions that are no public interface and may change with any release, so it refuses
#: every other version; `emberq openwebui doctor` warns of them.
TESTED_VERSIONS: Final = ("0.12.4",)
