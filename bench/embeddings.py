"""The embeddings endpoint: one text per request, as Open WebUI sends them, beside one call of the model."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from statistics import median

from documents import EMBERQ, first_key, read_until
from outcome import Figure, Outcome, percentile
from stage import Stage, StageError

__all__ = ["NAME", "measure"]

NAME = "embeddings"

#: What the one call is made with: the model alone, in a process of its own, with one thread as the API's
#: bulk queue has on two cores.
_DIRECT = """
import json, sys, time
from emberq.models.embedder import Embedder
from emberq.models.files import find_model
texts = json.load(open(sys.argv[1]))
embedder = Embedder.load(find_model())
embedder.embed(texts[:64])
started = time.perf_counter()
embedder.embed(texts)
print(time.perf_counter() - started)
"""
_SENTENCE = "Terns number {} of colony {} fly over the sea, rest on the ice, and come back in spring."
#: Seconds between two queries.
_QUERY_PAUSE = 0.05


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Measure texts per second in rounds that alternate, and how long queries take meanwhile."""
    number, rounds = (300, 1) if quick else (2000, 3)
    stage.directory.chmod(0o755)
    environment = {"EMBERQ_DATA_DIR": str(stage.path("data")), "EMBERQ_LOG_LEVEL": "warning"}
    direct: list[float] = []
    single: list[float] = []
    cached: list[float] = []
    during: list[float] = []
    with stage.running(
        [EMBERQ, "serve", "--port", "0"], environment=environment, stdout=subprocess.PIPE
    ) as api:
        url = read_until(api, r"http://[\d.:]+")
        client = _Client(url, first_key(stage))
        asyncio.run(client.embed("Is it warm?", kind="query"))
        stage.tell("queries alone")
        alone = asyncio.run(client.queries(40 if quick else 200))
        for turn in range(rounds):
            texts = [_SENTENCE.format(n, turn) + f" {n % 97}" * (n % 40) for n in range(number)]
            stage.tell(f"round {turn + 1} of {rounds}: one call")
            direct.append(number / _call(stage, texts))
            stage.tell(f"round {turn + 1} of {rounds}: {number} requests")
            seconds, latencies = asyncio.run(client.burst(texts))
            single.append(number / seconds)
            during += latencies
            seconds, _ = asyncio.run(client.burst(texts))
            cached.append(number / seconds)
    ratio = median(one / other for one, other in zip(single, direct, strict=True))
    rows = [
        ["one call of the model, one thread", f"{median(direct):.0f}", "", "", ""],
        ["one request per text, all at once", f"{median(single):.0f}", *_row(during)],
        ["the same again, from the cache", f"{median(cached):.0f}", "", "", ""],
        ["no bulk", "", *_row(alone)],
    ]
    return Outcome(
        name=NAME,
        title="Embeddings, one text per request",
        how=f"{number:,} texts of 25 to 100 tokens, each in a request on a connection of its own, all at "
        "once, against one call of the model with all of them; medians of the rounds. Meanwhile a query "
        "every 50 ms, marked as one. The client shares the processors.",
        columns=["", "texts/s", "query p50", "query p99", "longest"],
        rows=rows,
        figures=[
            Figure("single-text requests ÷ one call", ratio),
            Figure("query p50, no bulk", percentile(alone, 50) * 1000, "ms"),
            Figure("query p50 during bulk", percentile(during, 50) * 1000, "ms"),
            Figure("query p99 during bulk", percentile(during, 99) * 1000, "ms"),
        ],
        raw={"direct": direct, "single": single, "cached": cached, "alone": alone, "during": during},
    )


def _row(seconds: list[float]) -> list[str]:
    return [f"{value * 1000:.1f} ms" for value in (*(percentile(seconds, p) for p in (50, 99)), max(seconds))]


def _call(stage: Stage, texts: list[str]) -> float:
    path = stage.path("texts.json")
    path.write_text(json.dumps(texts))
    done = subprocess.run(
        [sys.executable, "-c", _DIRECT, str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StageError(f"The model alone failed:\n{done.stderr}")
    return float(done.stdout)


class _Client:
    """Sends requests as Open WebUI does: a new connection for each, nothing kept alive, no second try."""

    def __init__(self, url: str, key: str) -> None:
        found = re.fullmatch(r"http://([\d.]+):(\d+)", url)
        if found is None:
            raise StageError(f"{url} is not where an API listens.")
        self._place = found[1], int(found[2])
        self._key = key

    async def embed(self, text: str, *, kind: str) -> float:
        """Embed one text and return the seconds it took."""
        started = time.perf_counter()
        body = json.dumps({"input": [text], "model": "all-MiniLM-L6-v2", "input_type": kind}).encode()
        reader, writer = await asyncio.open_connection(*self._place)
        writer.write(
            f"POST /v1/embeddings HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        answer = await reader.read()
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise StageError(f"A request was not answered: {answer[:500]!r}")
        return time.perf_counter() - started

    async def queries(self, number: int) -> list[float]:
        """Send queries one after another."""
        latencies = []
        for index in range(number):
            latencies.append(await self.embed(f"How far does tern {index} fly?", kind="query"))
            await asyncio.sleep(_QUERY_PAUSE)
        return latencies

    async def burst(self, texts: list[str]) -> tuple[float, list[float]]:
        """Send all texts at once, and queries until they are answered; seconds, and those of the queries."""
        started = time.perf_counter()
        bulk = asyncio.gather(*(self.embed(text, kind="passage") for text in texts))
        latencies: list[float] = []
        while not bulk.done():
            await asyncio.sleep(_QUERY_PAUSE)
            latencies.append(await self.embed(f"Query {started} {len(latencies)}", kind="query"))
        await bulk
        return time.perf_counter() - started, latencies
