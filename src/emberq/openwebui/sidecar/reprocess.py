"""One more attempt to process a file, as the watcher and the import make it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from emberq.errors import EmberqError
from emberq.openwebui.sidecar.attempts import Attempts
from emberq.openwebui.sidecar.client import OpenWebUIClient
from emberq.openwebui.sidecar.errors import OpenWebUIUnavailable
from emberq.openwebui.sidecar.records import StoredFile


def reprocess(
    client: OpenWebUIClient,
    file: StoredFile,
    past: Attempts,
    *,
    knowledge_id: str = "",
    save: Callable[[Attempts], None] = lambda _: None,
) -> tuple[Attempts, EmberqError | None]:
    """Process a file again, link it to a knowledge base, and wait for the end of both.

    The caller has locked the file.

    Args:
        client: The server.
        file: The file.
        past: Earlier attempts.
        knowledge_id: Knowledge base that the file is not yet linked to; empty if there is none.
        save: Called with the attempts before each long request, so that an attempt that kills this process
            or the server is counted.

    Returns:
        The attempts with this one, and the error that ended it. The attempt is still open if the server did
        not answer, and not counted if the server has not received the request.
    """
    attempts = Attempts(past.count + 1, knowledge_id=knowledge_id)

    def start_request() -> None:
        nonlocal attempts
        attempts = replace(attempts, started_at=client.server_time())
        save(attempts)

    try:
        if file.status != "completed":
            start_request()
            client.process(file.id)
            text = client.text_of(file.id)
            if text.strip() and not client.has_chunks(file.id):
                # The server was killed after it created the file's collection and before it filled it.
                # It never fills an existing collection, unless a text is given.
                start_request()
                client.process(file.id, text)
        if knowledge_id:
            start_request()
            client.link(knowledge_id, file.id)
            if file.text_hash or past.count > 0:
                # An interrupted attempt may have left chunks in the knowledge base.
                start_request()
                client.relink(knowledge_id, file.id)
    except OpenWebUIUnavailable as exc:
        if not exc.had_no_effect:
            return attempts, exc
        uncounted = replace(attempts, count=past.count, started_at=past.started_at)
        return replace(uncounted, ended_at=client.server_time()), exc
    except EmberqError as exc:
        return replace(attempts, ended_at=client.server_time(), error=exc.message), exc
    return replace(attempts, ended_at=client.server_time()), None
