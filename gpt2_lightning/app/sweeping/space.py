"""Search space of a study: Hydra's overrides with ranges or choices, as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from gpt2_lightning.app.config.overrides import as_typed
from gpt2_lightning.app.output.exits import fault_list
from gpt2_lightning.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_LOGARITHMIC = "log"


@dataclass(frozen=True)
class Space:
    """Search space, read from overrides."""

    fixed: list[str]
    """Overrides with a single value."""
    swept: dict[str, BaseDistribution]
    """Distributions by key with Hydra's prefix, such as `++optimizer.lr`."""
    ends: dict[str, list[Any]] = field(default_factory=dict)
    """Values that are checked before the search, by the keys of `swept`: both ends of a range, or every choice."""

    @classmethod
    def read(cls, overrides: list[str], config_loader: Any) -> Space:
        """Parse overrides.

        Args:
            overrides: overrides in Hydra's grammar.
            config_loader: Hydra's configuration loader.

        Raises:
            UserError: if overrides cannot be searched, all of which the message lists, or none has several values.
        """
        try:
            parsed = OverridesParser.create(config_loader=config_loader).parse_overrides(overrides)
        except HydraException as error:
            raise UserError(f"the settings of the runs cannot be read: {error}") from None
        space, faults = cls([], {}), list[str]()
        for one in parsed:
            if not one.is_sweep_override():
                space.fixed.append(one.input_line or "")
                continue
            try:
                distribution, ends = _distribution(one)
                space.swept[one.get_key_element()] = distribution
                space.ends[one.get_key_element()] = ends
            except ValueError as error:
                faults.append(f"{one.key_or_group}: {error}")
        if faults:
            raise UserError(fault_list(faults))
        if not space.swept:
            raise UserError(
                "there is nothing to search; give some settings several values, as in "
                "'optimizer.lr=tag(log,interval(1e-4,1e-2))' model=tiny,char"
            )
        return space

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """Return the overrides of one run.

        Args:
            values: sampled values by the keys of `swept`.
        """
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]

    def corners(self) -> Iterator[dict[str, Any]]:
        """Yield value sets that together contain every end of a range and every choice, changing one key at a time."""
        first = {key: ends[0] for key, ends in self.ends.items()}
        yield first
        for key, ends in self.ends.items():
            yield from (first | {key: end} for end in ends[1:])

    def typed(self, values: dict[str, Any]) -> dict[str, str]:
        """Return keys and values as typed on the command line."""
        pairs = (as_typed(f"{key}={value}").partition("=") for key, value in values.items())
        return {key: value for key, _, value in pairs}


def _distribution(one: Override) -> tuple[BaseDistribution, list[Any]]:
    """Return the distribution of an override, and the values to check.

    Raises:
        ValueError: if the override is neither a range nor a choice that can be searched.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = one.value()
    tags: set[str] = getattr(sweep, "tags", set())
    log = _LOGARITHMIC in tags
    if tags - {_LOGARITHMIC}:
        raise ValueError(f"the tag {', '.join(sorted(tags - {_LOGARITHMIC}))} means nothing here; there is log")
    if isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        assert low is not None
        assert high is not None
        _require_range(low, high, log)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log), [low, high]
        return FloatDistribution(low, high, log=log), [float(low), float(high)]
    if isinstance(sweep, RangeSweep):
        values = list(sweep.range())
        if not values:
            raise ValueError(f"the range from {sweep.start} to {sweep.stop} holds no value")
        if log:
            raise ValueError("a range has equal steps; for log write tag(log,int(interval(1,64)))")
        low, high = min(values), max(values)
        step = abs(sweep.step)
        if all(isinstance(value, int) for value in values):
            return IntDistribution(int(low), int(high), step=int(step)), [low, high]
        return FloatDistribution(low, high, step=step), [low, high]
    if log:
        raise ValueError("choices have no scale; write tag(log,interval(1e-4,1e-2))")
    choices = list(dict.fromkeys(str(value) for value in one.sweep_string_iterator()))
    return CategoricalDistribution(choices), choices


def _require_range(low: float, high: float, log: bool) -> None:
    if not low < high:
        raise ValueError(f"the interval from {low} to {high} is empty; the lower end comes first")
    if log and low <= 0:
        raise ValueError(f"the interval begins at {low}, and a logarithm needs more than 0")
