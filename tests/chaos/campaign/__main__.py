"""Run a kill campaign from the command line: `python -m tests.chaos.campaign --kills 1000`."""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from emberq.telemetry.logs import configure_logs
from tests.chaos.campaign.campaign import run_campaign
from tests.chaos.campaign.plan import FAULTS, QUICK_FAULTS, make_plan
from tests.chaos.campaign.report import as_markdown, broken_goals, last_line, survival_section
from tests.chaos.campaign.two_hosts import lose_a_host

#: Kills from which on a campaign is expected to reach every rare state.
_FULL = 200


def main(arguments: list[str]) -> int:
    """Run a campaign and print its report; the last line is for programs.

    Returns:
        0 if all goals were met.
    """
    options = _parse(arguments)
    # Ends in order: nothing that was started may be left.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    configure_logs(level="error")
    faults = {"all": FAULTS, "quick": QUICK_FAULTS, "none": ()}.get(options.faults)
    if faults is None:
        faults = tuple(options.faults.split(","))
    plan = make_plan(options.seed, kills=options.kills, hosts=2, faults=faults, every=options.every)
    directory = Path(tempfile.mkdtemp(prefix="emberq-chaos-"))
    _tell(f"seed {options.seed}, {len(plan)} actions, records in {directory}")
    result = run_campaign(
        directory,
        seed=options.seed,
        plan=plan,
        hosts=2,
        phase_seconds=options.phase_seconds,
        tell=_tell,
    )
    is_full = options.kills >= _FULL and options.faults == "all"
    broken = broken_goals(result, must_reach_rare_states=is_full)
    page = as_markdown(result, command=_command(options), broken=broken)
    if is_full:
        (directory / "hosts").mkdir()
        survival = lose_a_host(directory / "hosts")
        page += survival_section(survival)
        broken += [] if survival.is_complete else ["the work of a dead host was not finished"]
    sys.stdout.write(page + "\n")
    if options.report is not None:
        options.report.write_text(page, encoding="utf-8")
    if not broken and not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        sys.stdout.write(f"History, end state and logs are in {directory}.\n")
    sys.stdout.write(last_line(result) + "\n")
    return 1 if broken else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description="Kill parts of a running emberq.")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="of the plan; a random one if left out")
    parser.add_argument("--kills", type=int, default=1000, help="how many times SIGKILL")
    parser.add_argument("--faults", default="all", help="all, quick, none, or names with commas between")
    parser.add_argument("--every", type=int, default=12, help="one fault after so many kills")
    parser.add_argument("--phase-seconds", type=float, default=20.0, help="measured before and after")
    parser.add_argument("--report", type=Path, help="where the report is written to as well")
    parser.add_argument("--keep", action="store_true", help="keep history and logs of a good run too")
    return parser.parse_args(arguments)


def _command(options: argparse.Namespace) -> str:
    """Return the command that does the same again."""
    words = f"--seed {options.seed} --kills {options.kills} --every {options.every}"
    if options.faults != "all":
        words += f" --faults {options.faults}"
    return f'make chaos CHAOS="{words}"'


def _tell(what: str) -> None:
    sys.stderr.write(what + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
