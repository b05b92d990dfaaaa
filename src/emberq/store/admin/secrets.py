"""Secrets: seals settings (Fernet with key rotation) and hashes API keys."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from emberq.errors import SettingInvalid
from emberq.system.files import replace_durably

#: 24 random bytes: 192 bits cannot be guessed, so a fast hash is enough.
_API_KEY_BYTES = 24


def new_api_key() -> str:
    """Return a new random API key, `eq_` and 32 URL-safe characters."""
    return "eq_" + secrets.token_urlsafe(_API_KEY_BYTES)


def hash_api_key(key: str) -> bytes:
    """Return the sha256 of a key, which is stored in its place."""
    return hashlib.sha256(key.encode()).digest()


class Sealer:
    """Encrypts with the newest key, and decrypts with any of the keys."""

    def __init__(self, keys: list[str]) -> None:
        """Take Fernet keys, newest first.

        Raises:
            SettingInvalid: If a key is not 32 url-safe base64-encoded bytes.
        """
        self._keys = _read_keys(keys)

    def _current(self) -> MultiFernet:
        return self._keys

    def seal(self, plain: str) -> str:
        """Encrypt a secret for the database."""
        return self._current().encrypt(plain.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Decrypt a secret.

        Raises:
            SettingInvalid: If none of the keys sealed it.
        """
        try:
            return self._current().decrypt(sealed.encode()).decode()
        except InvalidToken as exc:
            raise SettingInvalid(
                "A secret setting was sealed with another key.",
                hint="Start with the EMBERQ_SECRET_KEY it was set under, or set the secret again.",
            ) from exc


class FileSealer(Sealer):
    """A sealer whose keys are kept in a file, the newest first; it follows a rotation of the file."""

    def __init__(self, path: Path) -> None:
        """Read the keys.

        Raises:
            SettingInvalid: If the file contains something else.
        """
        self.path = path
        self._seen = _version(path)
        super().__init__(self._read())

    def _read(self) -> list[str]:
        return self.path.read_text(encoding="ascii").split()

    def _current(self) -> MultiFernet:
        with contextlib.suppress(OSError):
            version = _version(self.path)
            if version != self._seen:
                self._keys, self._seen = _read_keys(self._read()), version
        return self._keys

    def begin_rotation(self) -> None:
        """Put a new key before the others; after a rotation that was cut off, its new key is the newest."""
        keys = self._read()
        if len(keys) == 1:
            self._write([Fernet.generate_key().decode(), *keys])

    def end_rotation(self) -> None:
        """Drop all keys but the newest; call it once nothing in the database needs them."""
        self._write(self._read()[:1])

    def _write(self, keys: list[str]) -> None:
        replace_durably(self.path, "\n".join(keys) + "\n", mode=0o600)


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _read_keys(keys: list[str]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as exc:
        raise SettingInvalid(
            "EMBERQ_SECRET_KEY is not a Fernet key.",
            hint="Make one with `python -c 'from cryptography.fernet import Fernet; "
            "print(Fernet.generate_key().decode())'`.",
        ) from exc


def load_sealer(secret_key: str | None, data_dir: Path) -> Sealer:
    """Return the sealer of `EMBERQ_SECRET_KEY`, or of a key kept in the data directory.

    Args:
        secret_key: Comma-separated Fernet keys, newest first, if the environment has them.
        data_dir: Where `secret.key` (mode 0600) is kept, and made when it is missing.
    """
    if secret_key:
        return Sealer([key.strip() for key in secret_key.split(",") if key.strip()])
    path = data_dir / "secret.key"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"secret.key.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
        try:
            # Unlike a rename, a link does not replace the key that another process made first.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return FileSealer(path)
