"""The parity report as sections of sentences and tables."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence

import torch

import gpt2_lightning
from gpt2_lightning.app.output.sections import DIFFERS, Section, Table
from gpt2_lightning.app.reports.comparison_settings import loop_rows, settings_rows, shown_value
from gpt2_lightning.evaluation.parity import Ours, Report, Theirs
from gpt2_lightning.evaluation.parity.calls import Resolved, in_use
from gpt2_lightning.evaluation.parity.texts import Divergence
from gpt2_lightning.evaluation.parity.weights import Weights
from gpt2_lightning.huggingface.weights import dtype_name

_TENSORS_SHOWN = 8
_DIVERGENCES_SHOWN = 2


def page(report: Report, ours: Ours, theirs: Theirs, seed: int) -> list[Section]:
    """Build the sections of a report, with the conclusion last."""
    return [
        _sides(ours, theirs),
        _networks(report),
        *_texts(report, ours),
        _settings(report, ours, theirs, seed),
        *([_loop(report)] if report.loop else []),
        _slips(report),
        Section("Conclusion", tuple(_conclusion(report))),
    ]


def _sides(ours: Ours, theirs: Theirs) -> Section:
    import transformers

    their_config = theirs.model.config
    rows = (
        ("model", ours.place, theirs.place),
        ("program", f"GPT-2 Lightning {gpt2_lightning.__version__}", f"transformers {transformers.__version__}"),
        ("dtype", dtype_name(ours.model.wte.weight.dtype), dtype_name(theirs.model.dtype)),
        ("device", str(ours.model.wte.weight.device), str(theirs.model.device)),
        ("attention", f"{ours.model.config.kernels} kernels", their_config._attn_implementation),
        ("tokenizer", *_tokenizers(ours, theirs)),
    )
    software = f"torch {torch.__version__}, Python {platform.python_version()}"
    return Section("The two sides", table=Table(("", "ours", "theirs"), rows), after=(software,))


def _tokenizers(ours: Ours, theirs: Theirs) -> tuple[str, str]:
    if theirs.tokenizer is None:
        return ours.tokenizer.kind, "none"
    form = "from tokenizer.json" if theirs.tokenizer.is_fast else "in Python"
    return f"{ours.tokenizer.kind}, {ours.tokenizer.vocab_size:,} tokens", f"{form}, {len(theirs.tokenizer):,} tokens"


def _networks(report: Report) -> Section:
    networks = report.networks
    measured = zip(networks.on_prompt, networks.on_random_ids, report.explanation.layers, strict=True)
    rows = tuple(
        (layers[0].place, f"{layers[0].largest:.3g}", *(f"{layer.difference:.1e}" for layer in layers))
        for layers in measured
    )
    exact = report.explanation.precision
    header = ("largest difference", "largest value", "on the prompt", "on random tokens", f"those in {exact}")
    loss = (
        f"Loss on {networks.loss_tokens} tokens, in nats per token: {networks.our_loss:.6f} here, "
        f"{networks.their_loss:.6f} there"
    )
    return Section("Weights and hidden states", tuple(_weights(networks.weights)), Table(header, rows), (loss,))


def _weights(weights: Weights) -> Iterator[str]:
    if not weights.differing:
        yield f"All {weights.count} tensors are the same."
        return
    yield f"{len(weights.differing)} of {weights.count} tensors differ:"
    for tensor in weights.differing[:_TENSORS_SHOWN]:
        reason = ", which is rounding" if tensor.is_rounding else ""
        yield f"  {tensor.name}: {tensor.count:,} of {tensor.size:,} values, by up to {tensor.difference:.1e}{reason}"
    if len(weights.differing) > _TENSORS_SHOWN:
        yield f"  and {len(weights.differing) - _TENSORS_SHOWN} more"


def _texts(report: Report, ours: Ours) -> list[Section]:
    is_fixed = bool(report.explanation.fixes)
    fixed_header = ("with the causes corrected",) if is_fixed else ()
    rows = []
    for match, mended in zip(report.matches, report.mended, strict=True):
        matches = (match, mended) if is_fixed else (match,)
        outcomes = (_outcome(one.divergence.step if one.divergence else None) for one in matches)
        rows.append((match.name, str(len(match.ours)), *outcomes, DIFFERS if match.divergence else ""))
    for text, fixed_text in zip(report.loop, report.mended_loop, strict=True):
        texts = (text, fixed_text) if is_fixed else (text,)
        name = f"your loop, prompt of {_count(text.prompt_tokens, 'token')}"
        mark = DIFFERS if any(one.first_other for one in texts) else ""
        rows.append((name, str(len(text.ours)), *(_outcome(one.first_other) for one in texts), mark))
    table = Table(("with the same settings", "tokens", "as they are", *fixed_header, ""), tuple(rows))
    prompt = f"The prompt has {_count(len(report.our_prompt), 'token')}."
    divergences = [_divergence(match.name, match.divergence, ours) for match in report.matches if match.divergence]
    return [Section("Texts, token for token", (prompt,), table), *divergences[:_DIVERGENCES_SHOWN]]


def _outcome(first_other: int | None) -> str:
    return "the same" if first_other is None else f"differ from token {first_other}"


def _divergence(name: str, divergence: Divergence, ours: Ours) -> Section:
    def token(number: int | None) -> str:
        return "the end" if number is None else _quoted(ours, (number,))

    rows = []
    for one, other in zip(divergence.our_likeliest, divergence.their_likeliest, strict=True):
        mark = "" if one[0] == other[0] else DIFFERS
        rows.append((token(one[0]), f"{one[1]:.4f}", token(other[0]), f"{other[1]:.4f}", mark))
    chosen = f"{token(divergence.our_token)} here, {token(divergence.their_token)} there. The likeliest at this step:"
    table = Table(("ours", "probability", "theirs", "probability", ""), tuple(rows))
    return Section(f"Divergence: {name}, token {divergence.step}", (chosen,), table)


def _settings(report: Report, ours: Ours, theirs: Theirs, seed: int) -> Section:
    rows = tuple((*row.cells, DIFFERS if row.differs else "") for row in settings_rows(report, ours, theirs, seed))
    lines = [f"ours, {_count(len(report.our_text), 'token')}: {_quoted(ours, report.our_text)}"]
    for call in report.calls:
        length = _count(len(call.text), "token")
        lines.append(f"{call.name}, its first {length} with this seed: {_quoted(ours, call.text)}")
    if len(report.calls) == 1:
        reason = "it has no tokenizer" if report.their_prompt is None else "it reads other tokens of the prompt"
        lines.append(f"The pipeline is omitted: {reason}.")
    table = Table(("setting", "ours", *(call.name for call in report.calls), ""), rows)
    return Section("Default settings", table=table, after=tuple(lines))


def _loop(report: Report) -> Section:
    rows = tuple((*row.cells, DIFFERS if row.differs else "") for row in loop_rows(report.padding))
    return Section("Your loop around their model", table=Table(("setting", "what is right", "your loop", ""), rows))


def _slips(report: Report) -> Section:
    rows = tuple(
        (slip.name, f"{slip.distance:.2g}", "none" if slip.first_token is None else str(slip.first_token))
        for slip in report.slips
    )
    return Section(
        "Effect of common mistakes on this model",
        ("Each was made on purpose. The distance of next-token distributions is their total variation, 0 to 1.",),
        Table(("slip", "distance", f"first other token of {report.slips[0].compared}"), rows),
    )


def _conclusion(report: Report) -> Iterator[str]:
    for number, cause in enumerate(report.causes):
        yield f"{'Then' if number else 'First cause'}: {cause.sentence}. Evidence: {cause.evidence}."
    if not report.causes:
        logits = max(report.networks.on_prompt[-1].difference, report.networks.on_random_ids[-1].difference)
        yield (
            f"Both sides compute the same: logits differ by {logits:.1e} at most, and with the same settings and seed "
            f"all {len(report.matches)} texts are the same, token for token."
        )
    names = {cause.name for cause in report.causes}
    if report.networks.weights.altered and report.explanation.is_whole and "weights" not in names:
        yield "Tensors differ in values that have no part in what was compared; they are listed above."
    yield from (_of_call(call, report) for call in report.calls)


def _of_call(call: Resolved, report: Report) -> str:
    after = ", once the above is corrected" if report.explanation.fixes else ""
    if call.deciding is None:
        return f"{call.name} writes another text than we do, also with all of our settings{after}."
    if not call.deciding:
        return f"{call.name}, called with only the seed, writes the same text{after}."
    theirs, ours = in_use(call.settings), in_use(report.our_settings)
    pairs = [f"{key} is {shown_value(theirs[key])} there and {shown_value(ours[key])} here" for key in call.deciding]
    return (
        f"{call.name}, called with only the seed, writes another text because of its defaults: {', '.join(pairs)}. "
        f"With all of our settings its text is the same, token for token{after}."
    )


def _quoted(ours: Ours, ids: Sequence[int]) -> str:
    return repr(ours.tokenizer.decode(list(ids)))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
