"""What the recipes in `deploy/` set and run is what emberq reads and knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
import yaml

from emberq.cli.main import app
from emberq.config.environment import OTHER_VARIABLES, Environment
from emberq.openwebui.doctor.recommended import recommended_settings
from tests.harness.paths import DEPLOY

COMPOSE = yaml.safe_load((DEPLOY / "openwebui" / "compose.yaml").read_text(encoding="utf-8"))
KUBERNETES = [
    part
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for part in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
VALUES = yaml.safe_load((DEPLOY / "kubernetes" / "open-webui-values.yaml").read_text(encoding="utf-8"))
TUTORIAL = (DEPLOY.parent / "docs" / "tutorial" / "open-webui.md").read_text(encoding="utf-8")
#: Settings that comments name, and that no variable sets.
OTHERS = {"EMBERQ_SHUTDOWN_GRACE"}


def commands() -> Iterator[list[str]]:
    """Yield what containers of emberq run, and what comments say to run in them."""
    for service in COMPOSE["services"].values():
        if service.get("image") == "emberq":
            yield service["command"]
    for part in KUBERNETES:
        spec = part.get("spec", {}).get("template", {}).get("spec", {})
        for container in spec.get("containers", []):
            if container["image"] == "emberq":
                yield container["args"]


@pytest.mark.parametrize("arguments", list(commands()), ids=" ".join)
def test_a_recipe_runs_commands_that_there_are(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = [re.sub(r"^\$\{\w+:-(\w+)\}$", r"\1", word) for word in arguments]
    while hasattr(command, "commands"):
        assert rest[0] in command.commands
        command = command.commands[rest.pop(0)]
    assert command.make_context("emberq", rest, resilient_parsing=False) is not None


def test_the_recipes_set_only_what_emberq_reads() -> None:
    known = {f"EMBERQ_{name.upper()}" for name in Environment.model_fields} | OTHERS | set(OTHER_VARIABLES)
    named = {
        name
        for path in DEPLOY.rglob("*")
        if path.is_file()
        for name in re.findall(r"\bEMBERQ_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    assert named - known == set()


@pytest.mark.parametrize(
    "settings",
    [
        COMPOSE["services"]["open-webui"]["environment"],
        {one["name"]: one["value"] for one in VALUES["extraEnvVars"]},
        dict(re.findall(r"^([A-Z_]+)=(\S+)", TUTORIAL, re.MULTILINE)),
    ],
    ids=["Compose", "Kubernetes", "tutorial"],
)
def test_open_webui_gets_everywhere_what_emberq_recommends(settings: dict[str, str]) -> None:
    address = re.sub(r"/v1$", "", settings["RAG_OPENAI_API_BASE_URL"])
    recommended = recommended_settings(address, "", model=settings["RAG_EMBEDDING_MODEL"])
    # The cluster has the keys in a secret.
    told = {name: value for name, value in recommended.items() if value}
    assert {name: settings.get(name, "").lower() for name in told} == {
        name: value.lower() for name, value in told.items()
    }


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    compose = (DEPLOY / "openwebui" / "compose.yaml").read_text(encoding="utf-8")
    example = (DEPLOY / "openwebui" / "example.env").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", compose))
    assert asked == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
