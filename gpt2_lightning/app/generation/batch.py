"""Answers to a file of prompts."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from gpt2_lightning.app.generation.answer_files import AnswerFile, open_answers
from gpt2_lightning.app.generation.display import tell
from gpt2_lightning.app.generation.generator import Answer, Writer
from gpt2_lightning.app.generation.prompt_files import Row, read_prompts
from gpt2_lightning.app.generation.settings import Config
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2

_SHOWN = 10
"""Rows that a message names at most."""
_LOCKS = "locks"
"""Folder in `config.cache_dir`."""


def answer_file(config: Config, load: Callable[[], tuple[Writer, str]]) -> None:
    """Answer all prompts of `config.prompts` that have no answer in `config.output` yet.

    Args:
        config: the settings.
        load: makes who answers, and says where its model came from; called once the files are known to be usable.

    Raises:
        UserError: if a file cannot be used, or, in the end, if there were bad rows.
    """
    assert config.prompts is not None
    assert config.output is not None
    rows, digest = read_prompts(Path(config.prompts).expanduser())
    asked = _asked(config, f"{Path(config.prompts).name}, SHA-256 {digest[:16]}")
    with open_answers(Path(config.output).expanduser(), Path(config.cache_dir).expanduser() / _LOCKS) as output:
        output.require(asked)
        writer, place = load()
        output.begin(asked | _model_of(writer, place))
        prompts = _Prompts(writer, rows)
        prompts.tell()
        _answer_rest(writer, prompts, output)
    if prompts.bad:
        raise UserError(f"prompts: {_count(len(prompts.bad), 'row')} of {len(rows)} got an error instead of an answer")


class _Prompts:
    """The rows of a file with their ids; those that cannot be read have a fault."""

    def __init__(self, writer: Writer, rows: Sequence[Row]) -> None:
        self.writer = writer
        self.ids: dict[int, Tensor] = {}
        self.rows = [row if row.fault else self._read(row) for row in rows]

    @property
    def bad(self) -> list[Row]:
        """Those with a fault."""
        return [row for row in self.rows if row.fault]

    def batches(self, done: int) -> Iterator[tuple[int, list[Row]]]:
        """Neighbouring rows that are answered at a time, or a bad one alone, each with the place of the first.

        Args:
            done: leave out so many rows at the beginning.
        """
        place = done
        for _, run in itertools.groupby(self.rows[done:], key=lambda row: bool(row.fault)):
            neighbours = list(run)
            size = 1 if neighbours[0].fault else self.writer.config.batch_size
            for start in range(0, len(neighbours), size):
                batch = neighbours[start : start + size]
                yield place, batch
                place += len(batch)

    def tell(self) -> None:
        """Say what is wrong with rows, and what happens to others."""
        for row in self.bad[:_SHOWN]:
            tell(f"{self.writer.config.prompts}, row {row.number}: {row.fault}")
        if len(self.bad) > _SHOWN:
            tell(f"and {len(self.bad) - _SHOWN} more bad rows")
        notes: dict[str, list[int]] = {}
        for row in self.rows:
            for note in () if row.fault else self.writer.notes(row.prompt, self.ids[row.number]):
                notes.setdefault(note, []).append(row.number)
        for note, numbers in itertools.islice(notes.items(), _SHOWN):
            more = " …" if len(numbers) > _SHOWN else ""
            tell(f"row {', '.join(map(str, numbers[:_SHOWN]))}{more}: {note}")
        if len(notes) > _SHOWN:
            tell(f"and {len(notes) - _SHOWN} more rows that are longer than the context")

    def _read(self, row: Row) -> Row:
        try:
            self.ids[row.number] = self.writer.read(row.prompt)
        except UserError as error:
            return dataclasses.replace(row, fault=str(error))
        return row


def _answer_rest(writer: Writer, prompts: _Prompts, output: AnswerFile) -> None:
    there = output.rows()
    if there != [row.number for row in prompts.rows[: len(there)]]:
        raise UserError(f"output: {output.path} has other rows than the prompts; name another file")
    done, count = len(there), len(prompts.rows)
    output.keep(done)  # not the line that was cut off
    if done:
        tell(f"{_count(done, 'row')} of {count} were there already")
    begin, tokens = time.perf_counter(), 0
    with _telling_of_interrupts(output, count), _progress() as progress:
        task = progress.add_task("", total=count, completed=done, rate="")

        def on_token() -> None:
            nonlocal tokens
            tokens += 1
            progress.update(task, rate=f"{tokens / (time.perf_counter() - begin):,.0f} tokens/s")

        for place, batch in prompts.batches(done):
            if batch[0].fault:
                output.append([_error(batch[0])])
            else:
                ids = [prompts.ids[row.number] for row in batch]
                found = writer.answers(ids, place * writer.config.num_samples, on_token)
                output.append([_entry(row, answers) for row, answers in zip(batch, found, strict=True)])
            progress.advance(task, len(batch))
    seconds = time.perf_counter() - begin
    if tokens:
        tell(f"{tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:,.0f} tokens/s")
    if writer.slid:
        tell(writer.slide_note())
    tell(f"answers to {_count(len(prompts.rows) - len(prompts.bad), 'prompt')} in {output.path}")


@contextlib.contextmanager
def _telling_of_interrupts(output: AnswerFile, count: int) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        tell(f"{len(output.rows())} of {_count(count, 'row')} are answered; the same command goes on with the rest")
        raise


def _error(row: Row) -> dict[str, Any]:
    read = {"prompt": row.prompt} if row.prompt else {}
    return {"row": row.number, **read, "error": row.fault, **row.others}


def _entry(row: Row, answers: Sequence[Answer]) -> dict[str, Any]:
    return {"row": row.number, "prompt": row.prompt, "answers": [_plain(answer) for answer in answers], **row.others}


def _plain(answer: Answer) -> dict[str, Any]:
    plain: dict[str, Any] = {"text": answer.text, "finish": answer.finish, "tokens": len(answer.pieces)}
    if answer.seed is not None:
        plain["seed"] = answer.seed
    if answer.score is not None:
        plain["score"] = answer.score
    tokens = [piece.token for piece in answer.pieces]
    if tokens and tokens[0].log_probability is not None:
        plain["ids"] = [token.id for token in tokens]
        plain["log_probabilities"] = [token.log_probability for token in tokens]
        plain["likeliest"] = [token.likeliest for token in tokens]
    return plain


def _asked(config: Config, prompts: str) -> dict[str, Any]:
    """What decides the answers, with the model: all of it. The batch size does not."""
    return {
        "prompts": prompts,
        **dataclasses.asdict(config.sampling()),
        "num_samples": config.num_samples,
        "stop": list(config.stop_strings),
        "ignore_end_of_text": config.ignore_end_of_text,
        "raw": config.raw,
        "system": config.system,
    }


def _model_of(writer: Writer, place: str) -> dict[str, Any]:
    weight = writer.model.wte.weight
    return {
        "checkpoint": f"{Path(place).name}, SHA-256 of the weights {_weights_digest(writer.model)[:16]}",
        "tokenizer": f"{writer.tokenizer.kind}, SHA-256 {writer.tokenizer.hash()[:16]}",
        "device": weight.device.type,
        "dtype": str(weight.dtype).removeprefix("torch."),
    }


def _weights_digest(model: GPT2) -> str:
    sum_ = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        sum_.update(name.encode())
        sum_.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return sum_.hexdigest()


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TextColumn("{task.fields[rate]}"))
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
