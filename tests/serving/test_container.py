"""Dockerfile and compose file, read and compared with the project: no container is built here."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import yaml

from gpt2_lightning.app.commands.generation.serve import Config
from gpt2_lightning.app.verbs import PURPOSES

ROOT = Path(__file__).parent.parent.parent


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_dockerfile_has_known_instructions_and_copies_what_there_is() -> None:
    found = instructions()
    known = {
        "FROM",
        "ENV",
        "WORKDIR",
        "RUN",
        "COPY",
        "USER",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert {name for name, _ in found} <= known
    assert found[0][0] == "FROM"
    copied = [source for name, rest in found if name == "COPY" for source in shlex.split(rest)[:-1]]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in copied} <= set(ignored)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "conf", "lm_eval_plugin"}
    assert needed <= set(copied)
    extras = next(rest for name, rest in found if name == "RUN" and "serve" in rest)
    assert set(re.findall(r"\[(.*?)\]", extras)[0].split(",")) <= set(project["project"]["optional-dependencies"])
    torch = next(need for need in project["project"]["dependencies"] if need.startswith("torch"))
    assert any(torch in rest for name, rest in found if name == "RUN")


def test_container_runs_the_verb_without_rights_and_is_probed() -> None:
    found = dict(instructions())
    names = [name for name, _ in instructions()]
    assert found["USER"] not in ("root", "0")
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    program, verb, *settings = json.loads(found["ENTRYPOINT"]) + json.loads(found["CMD"])
    assert (program, verb in PURPOSES) == ("gpt2-lightning", True)
    values = dict(setting.split("=") for setting in settings)
    config = Config(**values, api_key="a key")
    assert found["EXPOSE"] == str(config.port)
    probe = json.loads(found["HEALTHCHECK"].partition("CMD ")[2])
    compile(probe[-1], "probe", "exec")
    assert f":{config.port}/health" in probe[-1]
    assert found["STOPSIGNAL"] == "SIGTERM"


def test_compose_file_publishes_to_this_machine_alone_and_needs_a_key() -> None:
    (service,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    assert service["ports"] == [f"127.0.0.1:{Config().port}:{Config().port}"]
    assert service["environment"]["GPT2_LIGHTNING_API_KEY"].startswith("${GPT2_LIGHTNING_API_KEY:?")
    assert int(service["stop_grace_period"].removesuffix("s")) > Config().grace
    assert service["read_only"] is True
    assert [setting.partition("=")[0] for setting in service["command"]] == ["checkpoint"]
