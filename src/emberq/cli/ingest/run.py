"""One run of `emberq ingest` or `emberq sync`: plan, question, upload, summary."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import typer

from emberq.cli.client import Client, NotReachable
from emberq.cli.ingest.found import Found, IdRule, describe_rule, shown_path
from emberq.cli.ingest.patience import Patience
from emberq.cli.ingest.plan import Planned, Step, ensure_collection, make_plan
from emberq.cli.ingest.upload import Uploader, UploadResult, skipped, summarize
from emberq.cli.output import counted, print_json, say

#: Most paths that are listed before a question.
_SHOWN: Final = 20
#: What a step would give.
_OUTCOMES: Final = {
    Step.ADD: "new",
    Step.REPLACE: "replaced",
    Step.UPDATE: "updated",
    Step.KEEP: "unchanged",
    Step.SKIP: "skipped",
}


class Run:
    """One run on one collection.

    Attributes:
        api: The API, with patience.
        collection: The collection's name.
        dry_run: Whether nothing may be changed.
        is_quiet: Whether only JSON is printed, and no question is asked.
    """

    def __init__(
        self,
        client: Client,
        collection: str,
        *,
        wait: bool,
        dry_run: bool,
        parallel: int,
        priority: str | None,
        as_json: bool,
    ) -> None:
        """Prepare a run; nothing is sent yet."""
        self.api = Patience(client)
        self.collection = collection
        self.dry_run = dry_run
        self.is_quiet = as_json
        self._wait = wait
        self._parallel = parallel
        self._priority = priority

    def upload(self, found: Found, *, may_replace: bool) -> list[UploadResult]:
        """Upload what was found, and return the result for each file, also for those that cannot be taken.

        Args:
            found: What was found.
            may_replace: Whether changed files replace their older versions without a question.

        Raises:
            Problem: If the collection cannot be used.
            NotReachable: If the API is away for too long.
            typer.Exit: If a person stops it.
        """
        results = [skipped(path, reason) for path, reason in found.not_taken]
        # A dry run makes no collection.
        exists = ensure_collection(self.api, self.collection, make=not self.dry_run)
        if exists:
            plan = make_plan(self.api, self.collection, found.files, parallel=self._parallel)
        else:
            plan = make_plan(None, self.collection, found.files, parallel=self._parallel)
        if self.dry_run:
            return [_as_planned(one) for one in plan] + results
        return self._send(self._without_refused(plan, may_replace=may_replace)) + results

    def _send(self, plan: Sequence[Planned]) -> list[UploadResult]:
        uploader = Uploader(
            self.api,
            self.collection,
            parallel=self._parallel,
            # A person waits for one file; many files must not delay it.
            priority=self._priority or ("interactive" if len(plan) == 1 else "bulk"),
            quiet=self.is_quiet,
        )
        try:
            return uploader.run(plan, wait=self._wait)
        except (KeyboardInterrupt, NotReachable) as exc:
            sys.stderr.write(
                f"\nStopped. The {uploader.acknowledged} files uploaded so far will still be processed.\n"
                "→ See `emberq jobs list`; run the same command again to upload the rest.\n"
            )
            if isinstance(exc, NotReachable):
                raise
            raise typer.Exit(130) from None

    def _without_refused(self, plan: list[Planned], *, may_replace: bool) -> list[Planned]:
        """Show what would be replaced, and return the plan without it unless that is allowed."""
        changed = [shown_path(one.file.path) for one in plan if one.step is Step.REPLACE]
        if not changed or (may_replace and self.is_quiet):
            return plan
        if may_replace or self.may_ask:
            show_paths(f"{counted(len(changed), 'changed file')}, in place of the older version:", changed)
        if may_replace or (self.may_ask and typer.confirm("Replace?", err=True)):
            return plan
        reason = "It has changed; --replace replaces the older version that the collection has."
        return [
            Planned(one.file, Step.SKIP, one.known, reason) if one.step is Step.REPLACE else one
            for one in plan
        ]

    @property
    def may_ask(self) -> bool:
        """Whether there is a person at a terminal to ask."""
        return not self.is_quiet and sys.stdin.isatty() and sys.stderr.isatty()


def announce_rule(paths: Sequence[Path], *, rule: IdRule, prefix: str | None) -> None:
    """Print what the external ids are."""
    say(describe_rule(paths, rule=rule, prefix=prefix), err=True)


def show_paths(title: str, paths: Sequence[str]) -> None:
    """Print a title and the first of the paths."""
    say(title, err=True)
    for path in islice(paths, _SHOWN):
        say(f"  {path}", err=True)
    if len(paths) > _SHOWN:
        say(f"  … and {len(paths) - _SHOWN} more", err=True)


def finish(results: Iterable[UploadResult], *, notes: Sequence[str], started: float, as_json: bool) -> None:
    """Print the results, and exit with 1 if any file was not taken.

    Raises:
        typer.Exit: If any file was skipped or failed.
    """
    results = list(results)
    if as_json:
        print_json([result.as_dict() for result in results])
    else:
        summarize(results, notes=notes, started=started)
    if not all(result.is_taken for result in results):
        raise typer.Exit(1)


def _as_planned(planned: Planned) -> UploadResult:
    result = UploadResult(shown_path(planned.file.path), planned.file.external_id)
    result.outcome, result.state, result.reason = _OUTCOMES[planned.step], "planned", planned.reason or None
    return result
