"""Comparison of two models as a self-contained HTML page. All text from items and models is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path

from gpt2_lightning.atomic import write_text
from gpt2_lightning.evaluation.results.comparison import (
    HEAD,
    ChangedItem,
    Comparison,
    Option,
    comparison_rows,
    format_difference,
)

MOST_ITEMS = 1000
"""Largest number of changed items of a benchmark in a page, evenly spaced."""
_TEMPLATE = Path(__file__).with_suffix(".html")


def write_comparison_page(comparisons: Sequence[Comparison], this: str, other: str, page: Path) -> None:
    """Write the page.

    Args:
        comparisons: comparisons of the same two models, at least one.
        this: display name of this model.
        other: display name of the other model.
        page: the file to write.
    """
    parts = {
        "title": escape(f"{this} and {other}"),
        "this": escape(this),
        "other": escape(other),
        "summary": _table(HEAD, comparison_rows(comparisons)),
        "sections": "\n".join(_section(comparison) for comparison in comparisons),
    }
    template = _TEMPLATE.read_text(encoding="utf-8")
    filled = re.sub(r"\{\{(\w+)\}\}", lambda part: parts[part[1]], template)
    write_text(page, filled.encode(errors="replace").decode())


def _section(comparison: Comparison) -> str:
    name = escape(comparison.benchmark)
    left_out = ", ".join(comparison.not_comparable)
    parts = [f'<section aria-labelledby="of-{name}"><h2 id="of-{name}">{name}: {comparison.n_items:,} items</h2>']
    if left_out:
        parts.append(f'<p class="faint">Not comparable between these models: {escape(left_out)}.</p>')
    if comparison.changed_by is not None:
        parts.append(_contingency(comparison))
    if comparison.changed:
        parts.append(_items(comparison))
    return "".join([*parts, "</section>"])


def _contingency(comparison: Comparison) -> str:
    """Describe the difference of the metric that determines which items are right, and McNemar's test."""
    by = next(pair for pair in comparison.differences if pair.name == comparison.changed_by)
    counts = by.contingency
    assert counts is not None, "it is a share of right items"
    cells = [["this right", f"{counts.both:,}", f"{counts.only_this:,}"]]
    cells += [["this wrong", f"{counts.only_other:,}", f"{counts.neither:,}"]]
    verdict = "differ" if counts.p_value < 0.05 else "do not differ significantly"
    return (
        f"<p>By {escape(by.name)}, the models {verdict}: {format_difference(by.difference)}, p = {counts.p_value:.4g} "
        f"(McNemar's exact test).</p>{_table(('', 'other right', 'other wrong'), cells)}"
    )


def _items(comparison: Comparison) -> str:
    changed = comparison.changed
    n_shown = min(len(changed), MOST_ITEMS)
    shown = [changed[number * len(changed) // n_shown] for number in range(n_shown)]
    less = f", {len(shown):,} of them below, evenly spaced" if len(shown) < len(changed) else ""
    name = escape(comparison.benchmark)
    choices = (("all", " checked", "all"), ("this", "", "only this is right"), ("other", "", "only the other is right"))
    radios = "".join(
        f'<label><input type="radio" name="{name}" value="{value}"{checked}> {words}</label>'
        for value, checked, words in choices
    )
    search = '<label>text <input type="search" spellcheck="false"></label>'
    return (
        f"<h3>{len(changed):,} items that only one model has right{less}</h3>"
        f'<form class="filter">{radios}{search}<output role="status"></output></form>'
        f"{''.join(_item(item) for item in shown)}"
    )


def _item(item: ChangedItem) -> str:
    side = "this" if item.is_this_right else "other"
    lines = "".join(_option(*pair) for pair in _pairs(item))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("answer", "this", "other"))
    return (
        f'<article tabindex="0" data-side="{side}" aria-label="item {escape(item.id)}">'
        f"<h4>item {escape(item.id)}: only {side} is right</h4>"
        f'<p class="context">{escape(item.this.context)}</p>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div></article>'
    )


def _pairs(item: ChangedItem) -> Iterable[tuple[Option | None, Option | None]]:
    """Return the options of both models: by place if they are the same, otherwise by text."""
    ours, theirs = item.this.options, item.other.options
    if [option.text for option in ours] == [option.text for option in theirs]:
        return zip_longest(ours, theirs)
    others = {option.text: option for option in theirs}
    return [*((option, others.pop(option.text, None)) for option in ours), *((None, left) for left in others.values())]


def _option(this: Option | None, other: Option | None) -> str:
    known = this or other
    assert known is not None, "one of the models has the option"
    mark = ' <span class="right">✓ right</span>' if known.is_right else ""
    cells = "".join(f"<td>{_cell(option)}</td>" for option in (this, other))
    return f'<tr><th scope="row">{escape(known.text)}{mark}</th>{cells}</tr>'


def _cell(option: Option | None) -> str:
    if option is None:
        return ""
    value = "" if option.value is None else f"{option.value:.4f}"
    return f'<span class="chosen">◆ chosen</span> {value}' if option.is_chosen else value


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(head[0] or "counts")}">'
        f"<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
