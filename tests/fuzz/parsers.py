"""The parsers under test: valid files of each, and the function that reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import Description, weights_alone
from gpt2_lightning.checkpoints.training_state import require_training_state
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpora.token_files import TokenFiles
from gpt2_lightning.data.instruction.templates import Template, template_of
from gpt2_lightning.data.shards.prepare import prepare
from gpt2_lightning.data.tables.files import Columns, format_of, read_file
from gpt2_lightning.data.tables.instructions import Message
from gpt2_lightning.data.tables.records import BadRows
from gpt2_lightning.huggingface import chat_template, folder
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.pretrained.load import load_pretrained
from gpt2_lightning.tokenizers import BPETokenizer, CharTokenizer, GPT2Tokenizer, huggingface, saved

ALPHABET = "abcdefgh \n"
TEXT = "bad cage fed\nhead beach\n" * 40
CHARACTERS = CharTokenizer(ALPHABET, end_of_text=True)
_LETTERS = BPETokenizer([(65, 66), (67, 68)])
_CONFIG = GPT2Config(CHARACTERS.vocab_size, block_size=8, n_layer=2, n_head=2, n_embd=8)


@dataclass(frozen=True)
class Parser:
    """Valid files in a folder, and the function that reads one of them or the whole folder."""

    make: Callable[[Path], None]
    read: Callable[[Path], object]


def _model() -> GPT2:
    torch.manual_seed(0)
    return GPT2(_CONFIG)


def _make_checkpoint(place: Path) -> None:
    counts = {"ready": 3, "started": 3, "processed": 3, "completed": 3}
    training = {
        "epoch": 0,
        "global_step": 3,
        "pytorch-lightning_version": "2.6.6",
        "loops": {"fit_loop": {"epoch_progress": {"total": counts, "current": counts}}},
        "callbacks": {"Metrics": {"best_val_loss": 2.5}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"params": [0]}]}],
        "lr_schedulers": [],
        "random_states": [{"cpu": torch.get_rng_state()}],
        "train_losses": [torch.tensor(2.0)],
        "stopped_early": False,
        "accumulate": 1,
    }
    content = weights_alone(_model(), Description(_CONFIG, CHARACTERS, {"seed": 3, "optimizer": {"lr": 0.1}}))
    files.write(content | training, place / "a.ckpt")


def _read_checkpoint(place: Path) -> None:
    load_pretrained(str(place / "a.ckpt"))
    require_training_state(files.read(place / "a.ckpt"), place / "a.ckpt")


def _make_folder(place: Path) -> None:
    place.rmdir()
    folder.write(_model(), CHARACTERS, place, "card", 10**9)
    template = Template(name="qa", question="Q {instruction} A ", between="\n", answer_end=" END")
    chat_template.write(template.to_plain(), place)


def _read_folder(place: Path) -> None:
    found = load_pretrained(str(place))
    if found.task:
        template_of(found.task).render([Message("user", "bad"), Message("assistant", "cage")])
    if found.tokenizer is not None:
        found.tokenizer.decode([int(token) for token in found.tokenizer.encode("bad cage")])


def _make_tokenizer(place: Path) -> None:
    from gpt2_lightning.huggingface.tokenizer_files import write_tokenizer_files

    write_tokenizer_files(_LETTERS, place, 8)


def _read_tokenizer(place: Path) -> None:
    huggingface.load(place).encode("bad cage")
    from gpt2_lightning.huggingface.tokenizer_files import read_tokenizer

    read_tokenizer(place).encode("bad cage")


def _read_saved(place: Path) -> None:
    tokenizer = saved.from_corpus([], False, str(place))
    tokenizer.decode([int(token) for token in tokenizer.encode("bad")])


def _make_tokens(place: Path) -> None:
    header = torch.tensor([20240520, 1, len(TEXT), *[0] * 253], dtype=torch.int32).numpy().tobytes()
    ids = CHARACTERS.encode(TEXT).astype("<u2").tobytes()
    (place / "a_train.bin").write_bytes(ids)
    (place / "b_train.bin").write_bytes(header + ids)


def _read_tokens(place: Path) -> None:
    tokens = TokenFiles(path=str(place)).open(CHARACTERS, place.with_name("cache"))
    tokens.train.read(np.array([0]), min(8, len(tokens.train)))


def _make_shards(place: Path) -> None:
    text = place.with_name("text.txt")
    text.write_text(TEXT)
    prepare(TextCorpus(path=str(text)), GPT2Tokenizer(), place, place.with_name("cache"), 1)


def _read_shards(place: Path) -> None:
    tokens = TokenFiles(path=str(place)).open(GPT2Tokenizer(), place.with_name("cache"))
    tokens.train.read(np.array([0]), min(8, len(tokens.train)))


def _make_tables(place: Path) -> None:
    rows = [{"text": f"row {i}", "label": "ham"} for i in range(8)]
    (place / "a.csv").write_text("text,label\n" + "".join(f'"{r["text"]}",{r["label"]}\n' for r in rows))
    (place / "a.tsv").write_text("text\tlabel\n" + "".join(f"{r['text']}\t{r['label']}\n" for r in rows))
    import json

    (place / "a.json").write_text(json.dumps(rows))
    (place / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), place / "a.parquet")


def _read_tables(place: Path) -> None:
    for file in sorted(place.glob("a.*")):
        columns = Columns("\t" if file.suffix == ".tsv" else ",", '"', None)
        for record in read_file(file, format_of(file, None), columns, BadRows()):
            assert record


def _make_mingpt(place: Path) -> None:
    import base64
    import json

    content: dict[str, object] = {"config": {"n_head": 2}}
    for name, tensor in GPT2(_CONFIG).state_dict().items():
        data = base64.b64encode(tensor.numpy().tobytes()).decode()
        content[f"transformer.{name}" if not name.startswith("lm_head") else name] = {
            "shape": list(tensor.shape),
            "dtype": "torch.float32",
            "data": data,
        }
    (place / "a.json").write_text(json.dumps(content))


PARSERS = {
    "checkpoint": Parser(_make_checkpoint, _read_checkpoint),
    "folder": Parser(_make_folder, _read_folder),
    "tokenizer": Parser(_make_tokenizer, _read_tokenizer),
    "saved": Parser(lambda place: saved.write_tokenizer(_LETTERS, place / saved.FILE), _read_saved),
    "tokens": Parser(_make_tokens, _read_tokens),
    "shards": Parser(_make_shards, _read_shards),
    "tables": Parser(_make_tables, _read_tables),
    "mingpt": Parser(_make_mingpt, lambda place: load_pretrained(str(place / "a.json"))),
}
