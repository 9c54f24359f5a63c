"""Resolvers and defaults that the YAML files refer to."""

from __future__ import annotations


def register_with_hydra(*verbs: str) -> None:
    """Register with Hydra the resolver `${divide:a,b}`, and the defaults of settings that are stated in the code.

    Args:
        verbs: verbs to compose. `VERB_defaults` in a defaults list contains the defaults of a verb's settings.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from gpt2_lightning.app.config.schema import settings_of_verb

    OmegaConf.register_new_resolver("divide", lambda dividend, divisor: dividend / divisor, replace=True)
    for verb in verbs:
        stated = {n: s.default for n, s in settings_of_verb(verb).items() if not (s.is_required or s.is_group)}
        ConfigStore.instance().store(name=f"{verb}_defaults", node=stated, provider="gpt2_lightning")
