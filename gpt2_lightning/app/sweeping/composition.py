"""Composition and checks of a sweep's configurations, before its first run starts."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from gpt2_lightning.app.verbs import module_of
from gpt2_lightning.errors import UserError


@contextlib.contextmanager
def job_of(config: DictConfig, number: int) -> Iterator[None]:
    """Context manager in which references such as `${hydra:job.num}` resolve to one job of the sweep.

    Args:
        config: the composed configuration with its `hydra` node, which is modified.
        number: job number, from 0.
    """
    instance = HydraConfig.instance()
    before = instance.cfg
    with read_write(config), open_dict(config):
        config.hydra.job.num, config.hydra.job.id = number, str(number)
    instance.set_config(config)
    try:
        yield
    finally:
        instance.cfg = before


def checked(verb: str, config: DictConfig) -> tuple[dict[str, Any], list[str]]:
    """Resolve the configuration of a run, and check everything that can be checked before it starts.

    Args:
        verb: `train` or `finetune`.
        config: the composed configuration, whose `hydra` node is the one set in `HydraConfig`.

    Returns:
        The resolved configuration as plain containers with the placeholder `run_dir` ".", and a list of all faults.
    """
    from gpt2_lightning.app.config import build
    from gpt2_lightning.app.run.replay import check
    from gpt2_lightning.app.run.settings import require_shares

    given = {one.lstrip("+").partition("=")[0] for one in HydraConfig.get().overrides.task}
    config = config.copy()
    with read_write(config), open_dict(config):
        config.pop("hydra", None)
        config.run_dir = "."
    schema = importlib.import_module(module_of(verb)).Config
    plain, faults = check(verb, config, schema)
    if faults:
        return plain, faults
    if plain["resume"] != "never":
        faults.append(
            f"resume: {plain['resume']} cannot distinguish the jobs of a sweep; leave it out: the same command again "
            "goes on with each of them"
        )
    if plain["plan"]:
        faults.append("plan: it is of a single run, and leaves nothing to compare; leave the sweep out")
    if "run_dir" in given:
        faults.append("run_dir: each run has its own in the sweep's folder, which hydra.sweep.dir or study_dir names")
    if faults:
        return plain, faults
    try:
        count = build.make(plain["trainer"]).processes()
        require_shares(plain, count)
    except UserError as error:
        return plain, [str(error)]
    return plain, []
