"""The accounts of the embedded Valkey: emberq's, which may do what RQ needs, and the operator's."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from emberq.system.files import replace_durably

#: What emberq and RQ use; docs/how-to/redis-access.md has the same list, with what each account may not do.
RULES: Final = (
    *("~rq:*", "~worker:heartbeat:*", "&rq:*", "-@all"),
    *("+ping", "+hello", "+select", "+info", "+client|setname", "+client|setinfo", "+client|info"),
    *("+client|id", "+client|unblock"),
    *("+multi", "+exec", "+discard", "+watch", "+unwatch", "+eval", "+evalsha", "+script|exists"),
    "+script|load",
    *("+publish", "+subscribe", "+unsubscribe"),
    *("+get", "+set", "+del", "+unlink", "+exists", "+expire", "+persist", "+ttl", "+type"),
    *("+hget", "+hgetall", "+hmget", "+hset", "+hdel", "+hexists", "+hincrby", "+hincrbyfloat"),
    *("+rpush", "+lpush", "+lpop", "+blpop", "+lmove", "+blmove", "+lrange", "+lrem", "+llen", "+lpos"),
    *("+sadd", "+srem", "+smembers", "+scard", "+sismember"),
    *("+zadd", "+zrem", "+zcard", "+zscore", "+zrange", "+zrangebyscore", "+zremrangebyscore"),
    *("+xadd", "+xrevrange"),
)
#: Random bytes of a password.
_PASSWORD_BYTES = 24


@dataclass(frozen=True, slots=True)
class Passwords:
    """The passwords of the accounts `emberq` and `admin`, which belong to one data directory."""

    emberq: str
    admin: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read them; None if there are none yet."""
        try:
            return cls(**json.loads(path.read_text(encoding="ascii")))
        except FileNotFoundError:
            return None

    @classmethod
    def make(cls, path: Path) -> Self:
        """Read them, or make and write them, for this user's eyes only."""
        found = cls.read(path)
        if found is None:
            found = cls(*(secrets.token_urlsafe(_PASSWORD_BYTES) for _ in range(2)))
            replace_durably(path, json.dumps(asdict(found)), mode=0o600)
        return found

    def write_accounts(self, path: Path) -> None:
        """Write the file of accounts that Valkey reads at its start; passwords stand in it as hashes."""
        lines = [
            "user default off",
            f"user emberq on #{_hash(self.emberq)} {' '.join(RULES)}",
            f"user admin on #{_hash(self.admin)} ~* &* +@all",
        ]
        replace_durably(path, "\n".join(lines) + "\n", mode=0o600)


def _hash(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
