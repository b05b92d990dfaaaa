"""The roles of the embedded PostgreSQL and their passwords, in a file that only this user may read."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from emberq.errors import DatabaseUnavailable
from emberq.system.files import replace_durably

#: The owner of the tables, which migrates them; what the API and the workers connect as.
OWNER_ROLE, API_ROLE, WORKER_ROLE = "emberq", "emberq_api", "emberq_worker"
#: The file's name in the data directory.
PASSWORDS_FILE = "postgres.json"


@dataclass(frozen=True, slots=True)
class Passwords:
    """The passwords of the roles.

    Attributes:
        by_role: Each role's password.
        provisioned: What the database was provisioned with; empty until it is.
    """

    by_role: dict[str, str]
    provisioned: str = ""

    @classmethod
    def new(cls) -> Self:
        """Return random passwords."""
        return cls({role: secrets.token_urlsafe(32) for role in (OWNER_ROLE, API_ROLE, WORKER_ROLE)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            DatabaseUnavailable: If it is missing or damaged.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="ascii")))
        except FileNotFoundError:
            raise DatabaseUnavailable(
                f"{path.parent} has no database yet.", hint="Start `emberq up` once."
            ) from None
        except (OSError, ValueError, TypeError) as exc:
            raise DatabaseUnavailable(
                f"{path} cannot be read: {type(exc).__name__}.",
                hint="Delete it: the next start makes new passwords.",
            ) from exc

    def write(self, path: Path) -> None:
        """Replace the file, with mode 0600."""
        replace_durably(path, json.dumps(asdict(self)), mode=0o600)
