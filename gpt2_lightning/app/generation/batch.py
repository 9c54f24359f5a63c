"""Generation of answers to a file of prompts."""

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

from gpt2_lightning.api.text_generator import Completion, TextGenerator
from gpt2_lightning.app.generation.answer_files import AnswerFile, open_answers
from gpt2_lightning.app.generation.display import print_note
from gpt2_lightning.app.generation.prompt_files import Row, read_prompts
from gpt2_lightning.app.generation.settings import Config
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.speculation.outcome import Acceptance, DraftOutcome
from gpt2_lightning.huggingface.weights import dtype_name
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.inference.quantized import is_quantized

_SHOWN = 10
"""Maximum number of rows listed in a message."""
_LOCKS = "locks"
"""Folder in `config.cache_dir`."""


def answer_file(config: Config, load: Callable[[], tuple[TextGenerator, str]]) -> None:
    """Answer the prompts of `config.prompts` that have no answer in `config.output` yet.

    Args:
        config: the settings.
        load: returns the generator and the location of its model; called once the files are known to be usable.

    Raises:
        UserError: if a file cannot be used, or, in the end, if there were bad rows.
    """
    assert config.prompts is not None
    assert config.output is not None
    rows, digest = read_prompts(Path(config.prompts).expanduser())
    asked = _asked(config, f"{Path(config.prompts).name}, SHA-256 {digest[:16]}")
    with open_answers(Path(config.output).expanduser(), Path(config.cache_dir).expanduser() / _LOCKS) as output:
        output.require(asked)
        generator, place = load()
        output.begin(asked | _model_of(generator, place))
        prompts = _Prompts(generator, config, rows)
        prompts.print_notes()
        _answer_rest(generator, prompts, output)
    if prompts.bad:
        raise UserError(f"prompts: {_count(len(prompts.bad), 'row')} of {len(rows)} got an error instead of an answer")


class _Prompts:
    """The rows of a file with their token ids; those that cannot be encoded have a fault."""

    def __init__(self, generator: TextGenerator, config: Config, rows: Sequence[Row]) -> None:
        self.generator, self.config = generator, config
        self.ids: dict[int, Tensor] = {}
        self.rows = [row if row.fault else self._read(row) for row in rows]

    @property
    def bad(self) -> list[Row]:
        """The rows with a fault."""
        return [row for row in self.rows if row.fault]

    def batches(self, done: int) -> Iterator[tuple[int, list[Row]]]:
        """Batches of consecutive rows, or a bad row alone, each with the index of its first row.

        Args:
            done: number of rows to skip at the beginning.
        """
        place = done
        for _, run in itertools.groupby(self.rows[done:], key=lambda row: bool(row.fault)):
            neighbours = list(run)
            size = 1 if neighbours[0].fault else self.config.batch_size
            for start in range(0, len(neighbours), size):
                batch = neighbours[start : start + size]
                yield place, batch
                place += len(batch)

    def print_notes(self) -> None:
        """Print the faults of bad rows and the notes on others."""
        for row in self.bad[:_SHOWN]:
            print_note(f"{self.config.prompts}, row {row.number}: {row.fault}")
        if len(self.bad) > _SHOWN:
            print_note(f"and {len(self.bad) - _SHOWN} more bad rows")
        if unknown := self.generator.tokenizer.take_note():
            print_note(f"in the prompts, {unknown}")
        notes: dict[str, list[int]] = {}
        for row in self.rows:
            for note in () if row.fault else self.generator.notes(row.prompt, self.ids[row.number]):
                notes.setdefault(note, []).append(row.number)
        for note, numbers in itertools.islice(notes.items(), _SHOWN):
            more = " …" if len(numbers) > _SHOWN else ""
            print_note(f"row {', '.join(map(str, numbers[:_SHOWN]))}{more}: {note}")
        if len(notes) > _SHOWN:
            print_note(f"and {len(notes) - _SHOWN} more rows that are longer than the context")

    def _read(self, row: Row) -> Row:
        try:
            self.ids[row.number] = self.generator.encode(row.prompt)
        except UserError as error:
            return dataclasses.replace(row, fault=str(error))
        return row


def _answer_rest(generator: TextGenerator, prompts: _Prompts, output: AnswerFile) -> None:
    there = output.rows()
    if there != [row.number for row in prompts.rows[: len(there)]]:
        raise UserError(f"output: {output.path} has other rows than the prompts; name another file")
    done, count = len(there), len(prompts.rows)
    output.keep(done)  # drop a truncated last line
    if done:
        print_note(f"{_count(done, 'row')} of {count} were answered already")
    begin, tokens, outcomes = time.perf_counter(), 0, list[DraftOutcome | None]()
    with _reporting_interrupts(output, count), _progress() as progress:
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
                found = generator.complete(ids, place * generator.settings.num_samples, on_token)
                outcomes += [token.outcome for texts in found for text in texts for token in text.tokens]
                output.append([_entry(row, texts) for row, texts in zip(batch, found, strict=True)])
            progress.advance(task, len(batch))
    seconds = time.perf_counter() - begin
    if tokens:
        print_note(f"{tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:,.0f} tokens/s")
    if tokens and generator.settings.speculate is not None:
        print_note(str(Acceptance.of(outcomes)))
    if generator.slid:
        print_note(generator.slide_note())
    print_note(f"answers to {_count(len(prompts.rows) - len(prompts.bad), 'prompt')} in {output.path}")


@contextlib.contextmanager
def _reporting_interrupts(output: AnswerFile, count: int) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print_note(f"{len(output.rows())} of {_count(count, 'row')} are answered; the same command continues")
        raise


def _error(row: Row) -> dict[str, Any]:
    read = {"prompt": row.prompt} if row.prompt else {}
    return {"row": row.number, **read, "error": row.fault, **row.others}


def _entry(row: Row, completions: Sequence[Completion]) -> dict[str, Any]:
    return {
        "row": row.number,
        "prompt": row.prompt,
        "answers": [_plain(completion) for completion in completions],
        **row.others,
    }


def _plain(completion: Completion) -> dict[str, Any]:
    plain: dict[str, Any] = {"text": completion.text, "finish": completion.finish, "tokens": len(completion.pieces)}
    if completion.seed is not None:
        plain["seed"] = completion.seed
    if completion.score is not None:
        plain["score"] = completion.score
    tokens = completion.tokens
    if tokens and tokens[0].log_probability is not None:
        plain["ids"] = [token.id for token in tokens]
        plain["log_probabilities"] = [token.log_probability for token in tokens]
        plain["likeliest"] = [token.likeliest for token in tokens]
    return plain


def _asked(config: Config, prompts: str) -> dict[str, Any]:
    """Return the settings that, together with the model, determine the answers.

    The batch size is not one of them, nor is speculation.
    """
    settings = dataclasses.asdict(config.generation())
    del settings["speculate"]
    return {"prompts": prompts, **settings}


def _model_of(generator: TextGenerator, place: str) -> dict[str, Any]:
    weight = generator.model.wte.weight
    return {
        "checkpoint": f"{Path(place).name}, SHA-256 of the weights {_weights_digest(generator.model)[:16]}",
        "tokenizer": f"{generator.tokenizer.kind}, SHA-256 {generator.tokenizer.hash()[:16]}",
        "device": weight.device.type,
        "dtype": "int8" if is_quantized(generator.model) else dtype_name(weight.dtype),
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
