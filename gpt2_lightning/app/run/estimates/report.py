"""Report of an estimate: sections with tables."""

from __future__ import annotations

from gpt2_lightning.app.output.sections import Section, Table
from gpt2_lightning.app.run.estimates.counts import Figures, Measured
from gpt2_lightning.training.callbacks.measurements.throughput import duration

_HEADER = ("", "")
_BESIDE = "Time is that of training alone: validation, samples and saving come on top."
_REMEDIES = ("a smaller micro_batch_size", "activation_checkpointing=true", "precision=bf16", "trainer=fsdp")
_UNDER_FSDP = "Under fsdp a device has its share of all, and the embeddings and two blocks at a time as a whole."


def sections(figures: Figures, found: Measured | None, price: float | None) -> list[Section]:
    """Build the sections of the report.

    Args:
        figures: counted work and memory.
        found: measured speed and memory; None if nothing was measured.
        price: price of one device hour, in any currency; None to omit the cost.
    """
    time = _expected(figures, price) if found is None else _measured(figures, found, price)
    faster = [Section("Faster", table=Table(("set", "because"), figures.faster))] if figures.faster else []
    return [_work(figures), _memory(figures), _by_devices(figures), time, *faster]


def _work(figures: Figures) -> Section:
    frozen = figures.parameters - figures.trained
    of_them = f": {figures.trained:,} trained, {frozen:,} frozen" if frozen else ""
    narrower = f", with padding {figures.width:,.0f} on average" if figures.width < figures.longest else ""
    shared = f" on each of {figures.devices} devices" if figures.devices > 1 else ""
    parts = f"{figures.parts:,} micro-batches" if figures.parts > 1 else "one micro-batch"
    rows = (
        ("parameters", f"{figures.parameters:,}{of_them}"),
        ("steps", f"{figures.steps:,} of {figures.batch_size:,} samples of up to {figures.longest:,} tokens{narrower}"),
        ("a step", f"{parts} of {figures.micro_batch_size:,}{shared}"),
        ("tokens", f"{figures.targets:,} to learn from, {figures.epochs:,.2f} epochs"),
        ("FLOPs", f"{figures.flops:.3g}, {figures.flops_per_token / 1e6:,.1f} million for each token"),
    )
    return Section("Work", table=Table(_HEADER, rows))


def _memory(figures: Figures) -> Section:
    held, device = figures.held, figures.device
    rows = (
        ("weights", _bytes(held.weights)),
        ("gradients", _bytes(held.gradients)),
        ("optimizer", _bytes(held.optimizer)),
        *([("average", f"{_bytes(held.average)}, of the weights")] if held.average else []),
        ("activations", f"{_bytes(figures.activations)} for a micro-batch, in {figures.precision}"),
        ("together", _bytes(held.together + figures.activations)),
    )
    after: tuple[str, ...] = ()
    if device.memory is not None:
        fits = figures.memory <= device.memory
        *several, last = _REMEDIES if figures.shardable else _REMEDIES[:-1]
        remedy = f"{', '.join(several)} or {last} take less"
        fault = "" if fits else f": {_bytes(figures.memory)} do not fit; {remedy}"
        after = (f"{_bytes(device.memory)} are free for a process ({device.name}){fault}.",)
    return Section("Memory", table=Table(_HEADER, rows), after=after)


def _by_devices(figures: Figures) -> Section:
    rows = tuple(
        (str(each.devices), f"{each.micro_batch_size:,}", _bytes(each.ddp), _bytes(each.fsdp))
        if each.micro_batch_size
        else (str(each.devices), "does not divide", "", "")
        for each in figures.by_devices
    )
    header, title = ("devices", "micro-batch", "trainer=ddp", "trainer=fsdp"), "Memory of each device"
    if figures.shardable:
        return Section(title, table=Table(header, rows), after=(_UNDER_FSDP,))
    return Section(title, table=Table(header[:-1], tuple(row[:-1] for row in rows)))


def _expected(figures: Figures, price: float | None) -> Section:
    peak, seconds = figures.device.peak_flops, figures.expected_seconds
    if peak is None or seconds is None:
        unknown = f"unknown: no peak is listed for {figures.device.name} in {figures.precision}; plan=probe measures"
        return Section("Time", table=Table(_HEADER, (("time", unknown), *_cost(None, figures, price))))
    how = "compiled" if figures.compiled else "not compiled"
    assumed = f"if training, {how}, reaches {figures.assumed_mfu:.0%} of {peak / 1e12:,.0f} TFLOP/s, which is assumed"
    rows = (("time", f"{duration(seconds)} on {figures.device.name}, {assumed}"), *_cost(seconds, figures, price))
    return Section("Time", table=Table(_HEADER, rows), after=(_BESIDE,))


def _measured(figures: Figures, found: Measured, price: float | None) -> Section:
    mfu = f"unknown: no peak is listed for {figures.device.name}" if found.mfu is None else f"{found.mfu:.1%}"
    rows = (
        ("a step", duration(found.seconds_a_step)),
        ("tokens per second", f"{found.tokens_per_second:,.0f}"),
        ("MFU", mfu),
        ("peak memory", "unknown" if found.peak_memory is None else f"{_bytes(found.peak_memory)} of this process"),
        ("time", duration(found.seconds)),
        *_cost(found.seconds, figures, price),
    )
    return Section("Time, measured in a few steps", table=Table(_HEADER, rows), after=(_BESIDE,))


def _cost(seconds: float | None, figures: Figures, price: float | None) -> tuple[tuple[str, str], ...]:
    if price is None:
        return ()
    if seconds is None:
        return (("cost", "unknown, as the time"),)
    hours = seconds / 3600 * figures.devices
    return (("cost", f"{hours * price:,.2f}: {hours:,.2f} device hours at {price:,}"),)


def _bytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
