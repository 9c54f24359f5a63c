"""Perplexity of WikiText."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from gpt2_lightning.evaluation.benchmarks.benchmark import Subject
from gpt2_lightning.evaluation.benchmarks.perplexity.benchmark import Documents, Perplexity
from gpt2_lightning.evaluation.benchmarks.perplexity.detokenizer import detokenize
from gpt2_lightning.evaluation.benchmarks.perplexity.encoded_text import documents_of, encode
from gpt2_lightning.evaluation.benchmarks.source import BenchmarkSource

_HUB, _REVISION = "Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3"
_BLANK = " \n"
"""A blank line of the files; in the data set on the Hub, the text of its row is empty."""
_LINES = {"test": 4358, "validation": 3760}
_TRAINING_LINES = {"wikitext-2-raw": 36718, "wikitext-103-raw": 1801350}
"""Published numbers of lines. The test and validation parts of both are the same (Merity et al. 2016, section 4.3)."""


@dataclass(frozen=True, kw_only=True)
class WikiText(Perplexity):
    """Perplexity of WikiText-2 or WikiText-103 (Merity et al. 2016), both raw, that is with all words.

    The default settings are those of lm-evaluation-harness' task `wikitext`: each article is a document, begins with
    the end-of-text token if the tokenizer has one, and is detokenized; words and bytes are those of the original.

    Raises:
        ValueError: with every setting that is out of range.
    """

    name: Literal["wikitext-2-raw", "wikitext-103-raw"]
    """Which of the two; also its folder in `data_dir`."""
    split: Literal["train", "validation", "test"] = "test"
    """Part of the data set."""
    detokenize: bool = True
    """Whether to undo the spaces around punctuation."""

    main: ClassVar[str] = "word_perplexity"

    def read(self, subject: Subject, data_dir: Path | None) -> Documents:
        source = BenchmarkSource(
            folder=self.name,
            file=f"*{self.split[:5]}*",  # wiki.valid.raw, or validation-00000-of-00001.parquet
            address=f"https://huggingface.co/datasets/{_HUB}/tree/{_REVISION}/{self.name}-v1",
            hub=_HUB,
            config=f"{self.name}-v1",
            split=self.split,
            revision=_REVISION,
        ).read(data_dir)
        text = _text([record.values.get("text") or "" for record in source.records])
        notes = source.notes
        expected = _LINES.get(self.split, _TRAINING_LINES[self.name])
        if (found := text.count("\n")) != expected:
            notes += (f"{source.location} has {found:,} lines, and the published file has {expected:,}",)
        pages = articles(text)
        rewritten = (lambda page: detokenize(page)) if self.detokenize else str
        if self.documents == "joined":
            whole = encode(["\n".join(pages)], subject.tokenizer, lambda _: "\n".join(map(rewritten, pages)))
            return documents_of([whole], subject, self.stride, None, source.location, notes)
        texts = [encode([page], subject.tokenizer, rewritten) for page in pages]
        return documents_of(texts, subject, self.stride, subject.tokenizer.end_of_text, source.location, notes)


def articles(text: str) -> list[str]:
    """Divide WikiText into articles, as the data set `EleutherAI/wikitext_document_level` has them."""
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if _is_title(line):
            found.append([])
        found[-1].append(line)
    return [page for page in map("\n".join, found) if page.strip()]


def _is_title(line: str) -> bool:
    """Whether a line is the title of an article: headings within an article have several signs on each side."""
    signs_together = line.replace("= = =", "===").replace("= =", "==").strip()
    return signs_together.startswith("= ") and signs_together.endswith(" =")


def _text(rows: list[str]) -> str:
    """Return the text of a file, which is one row, or of rows that are lines."""
    return rows[0].replace("\r\n", "\n") if len(rows) == 1 else "".join(line or _BLANK for line in rows)
