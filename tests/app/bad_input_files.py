"""The files that `bad_input.txt` names: a few good ones, and one of each kind of fault."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt2_lightning.checkpoints import files
from gpt2_lightning.checkpoints.content import KEY, Description, weights_alone
from gpt2_lightning.model.lora.layers import LoRASpec
from tests.app.made_checkpoints import LETTERS, save_adapter, save_base, save_classifier
from tests.huggingface.networks import CONFIG, lively

DEEP = "[" * 100_000 + "]" * 100_000


class Bomb:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.file,))


def write_all(folder: Path, run: Path, text: Path) -> None:
    """Write all files.

    Args:
        folder: an empty folder.
        run: a finished run, copied to `run`.
        text: the text of that run, copied to `text.txt`.
    """
    shutil.copytree(run, folder / "run")
    shutil.copy(text, folder / "text.txt")
    _texts(folder)
    _tables(folder)
    _configurations(folder)
    _token_files(folder)
    _checkpoints(folder)
    _model_folders(folder)


def _texts(folder: Path) -> None:
    (folder / "hollow").mkdir()
    for name, text in {
        "empty.txt": " \n",
        "short.txt": "ab" * 15,
        "prompts.txt": "abc\nabd\n",
        "hollow_file": "mine",
        "deep.jsonl": json.dumps({"text": "ok"}) + "\n" + DEEP + "\n",
        "deep.json": DEEP,
        "broken.jsonl": '{"text": "fine", "prompt": "fine"}\n{"text": \n',
        "other_field.jsonl": '{"content": "a text with another field"}\n' * 20,
        "garbage.json": '{"model": 3}',
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "latin.txt").write_bytes(b"caf\xe9 and more")
    (folder / "nul.txt").write_bytes(b"some words\0and more words " * 50)
    (folder / "cut.txt.gz").write_bytes(gzip.compress(b"some words " * 1000)[:40])
    (folder / "noise.txt.zst").write_bytes(b"no frame of zstandard at all")


def _tables(folder: Path) -> None:
    rows = [("ham", "a fine day"), ("spam", "buy now")] * 20
    header = "label,text\n"
    (folder / "rows.csv").write_text(header + "".join(f"{label},{text}\n" for label, text in rows))
    (folder / "one_class.csv").write_text(header + "ham,words\n" * 40)
    (folder / "ragged.csv").write_text(header + "ham,words\nham,words,and,more\n")
    questions = [{"instruction": "say a", "input": "", "output": "a"}] * 30
    (folder / "instructions.json").write_text(json.dumps(questions))
    (folder / "no_output.json").write_text(json.dumps([{"instruction": "say a"}] * 30))
    turns = {"messages": [{"role": "user", "content": "say a"}, {"role": "assistant", "content": "a"}]}
    (folder / "chat_turns.jsonl").write_text((json.dumps(turns) + "\n") * 30)


def _configurations(folder: Path) -> None:
    for name, text in {
        "model/odd.yaml": "n_layer: [1\n",
        "model/list.yaml": "- 1\n- 2\n",
        "optimizer/no_target.yaml": "lr: 1.0\n",
    }.items():
        file = folder / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _token_files(folder: Path) -> None:
    (folder / "odd.bin").write_bytes(b"\1\0" * 100 + b"\1")
    np.full(1000, 65535, dtype=np.uint16).tofile(folder / "large_ids.bin")
    header = np.zeros(256, dtype=np.int32)
    header[:8] = [20240326, 3, 13, 23, 2, 5, 35, 128]
    (folder / "llm_c.bin").write_bytes(header.tobytes() + bytes(4000))
    (folder / "gguf.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + bytes(200))


def _checkpoints(folder: Path) -> None:
    model = lively()
    good = weights_alone(model, Description(CONFIG, LETTERS, {"seed": 3}))
    save_base(folder / "base.ckpt")
    save_classifier(folder / "classifier.ckpt")
    save_adapter(folder / "adapter.ckpt", folder / "base.ckpt", LoRASpec(rank=2))
    whole = (folder / "base.ckpt").read_bytes()
    (folder / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (folder / "flipped.ckpt").write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
    (folder / "empty.ckpt").write_bytes(b"")
    (folder / "bomb.ckpt").write_bytes(pickle.dumps(Bomb(folder / "exploded")))
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, folder / "other.ckpt")
    first = "wte.weight"

    def changed(name: str, change: Callable[[dict[str, Any]], None]) -> None:
        copy = {"state_dict": dict(good["state_dict"]), KEY: {**good[KEY], "model": dict(good[KEY]["model"])}}
        change(copy)
        files.write(copy, folder / f"{name}.ckpt")

    def tensor(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], None]:
        return lambda copy: copy["state_dict"].update({first: change(copy["state_dict"][first])})

    changed("float_width", lambda copy: copy[KEY]["model"].update(n_embd=35.0))
    changed("many_layers", lambda copy: copy[KEY]["model"].update(n_layer=10_000_000))
    changed("integer_key", lambda copy: copy["state_dict"].update({7: torch.zeros(1)}))
    changed("deep_tokenizer", lambda copy: copy[KEY].update(tokenizer=DEEP))
    changed("surplus_tensor", lambda copy: copy["state_dict"].update(surplus=torch.zeros(1)))
    changed("lost_tensor", lambda copy: copy["state_dict"].pop("wpe.weight"))
    changed("meta_tensor", tensor(lambda weight: weight.to("meta")))
    changed("sparse_tensor", tensor(torch.Tensor.to_sparse))
    changed("complex_tensor", tensor(lambda weight: weight.to(torch.complex64)))
    changed("narrow_tensor", tensor(lambda weight: weight[:, :-1]))


def _model_folders(folder: Path) -> None:
    import safetensors.torch

    config = {
        "model_type": "gpt2",
        "vocab_size": CONFIG.vocab_size,
        "n_positions": CONFIG.block_size,
        "n_embd": CONFIG.n_embd,
        "n_layer": CONFIG.n_layer,
        "n_head": CONFIG.n_head,
    }
    weights = safetensors.torch.save({"wte.weight": torch.zeros(CONFIG.vocab_size, CONFIG.n_embd)})
    long_header = struct.pack("<Q", 2**60) + weights[8:]
    texts = {
        "without_config": None,
        "bad_json": '{"model_type": ',
        "nan": json.dumps(config | {"layer_norm_epsilon": float("nan")}),
        "text_layers": json.dumps(config | {"n_layer": "2"}),
        "deep": DEEP,
        "many_layers": json.dumps(config | {"n_layer": 10_000_000}),
        "llama": json.dumps({"model_type": "llama"}),
        "long_header": json.dumps(config),
    }
    for name, text in texts.items():
        here = folder / f"folder_{name}"
        here.mkdir()
        (here / "model.safetensors").write_bytes(long_header if name == "long_header" else weights)
        (here / "gpt2_lightning_tokenizer.json").write_text(LETTERS.to_text())
        if text is not None:
            (here / "config.json").write_text(text)
