"""Download of models from the Hugging Face Hub, `hf:NAME@REVISION`, into the cache of huggingface_hub."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.errors import UserError

SCHEME = "hf:"
_ADDRESS = re.compile(r"hf:(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BRANCH = "main"
"""The default revision."""
_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)
"""Files to download: no code, and weights as safetensors."""
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")
"""Weights of models without safetensors files; see `weight_files`."""


@dataclass(frozen=True)
class Snapshot:
    """The downloaded files of a commit."""

    folder: Path
    name: str
    commit: str


def fetch(address: str) -> Snapshot:
    """Download the files of a model, or find them in the cache.

    Args:
        address: `hf:NAME@REVISION`. A branch, a tag or the default revision is resolved to its commit. A cached commit
            requires no network access.

    Raises:
        UserError: if the address is malformed, there is no such model, or it is not cached and the Hub is unreachable.
    """
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise UserError(f"{address} is not an address of the hub, which has the form hf:NAME@REVISION, as hf:gpt2@main")
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise UserError(f'{address}: reading the hub needs pip install "gpt2-lightning[huggingface]"') from None

    name, revision, wanted = match["name"], match["revision"] or _BRANCH, list(_FILES)

    def cached() -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=True))

    try:
        if _COMMIT.fullmatch(revision):
            with contextlib.suppress(OSError):
                if _is_whole(folder := cached()):
                    return Snapshot(folder, name, revision)
        # Without a network, this fails immediately, whereas a download retries for a long time.
        info = HfApi().model_info(name, revision=revision)
        if not any(file.rfilename.endswith(".safetensors") for file in info.siblings or []):
            wanted += _PICKLES
        folder = Path(snapshot_download(name, revision=info.sha, allow_patterns=wanted))
        _remember(folder, revision)
    except (HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{address}: the hub refused it ({type(error).__name__}): {reason}") from None
    except Exception as error:  # each library defines its own exceptions for network failures
        folder = None
        with contextlib.suppress(OSError):
            folder = cached()
        if folder is None or not _has_weights(folder):
            raise UserError(_unreachable(address, name, match["revision"], error)) from None
    return Snapshot(folder, name, commit=folder.name)


def _is_whole(snapshot: Path) -> bool:
    """Whether a cached snapshot has weights and a tokenizer; other programs may have downloaded only a part of it."""
    return _has_weights(snapshot) and any((snapshot / name).is_file() for name in ("tokenizer.json", "vocab.json"))


def _has_weights(snapshot: Path) -> bool:
    """Whether a cached snapshot has a configuration and all files of its weights."""
    for kind, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        shards = sorted(file.stem for file in snapshot.glob(f"{kind}-*-of-*.{suffix}"))
        if (snapshot / f"{kind}.{suffix}").is_file() or (shards and shards[-1].endswith(f"-of-{len(shards):05d}")):
            return (snapshot / "config.json").is_file()
    return False


def _remember(snapshot: Path, revision: str) -> None:
    """Record the commit of a branch or tag in the cache, as huggingface_hub does, to find it offline."""
    if revision == snapshot.name:
        return
    with contextlib.suppress(OSError):  # a read-only cache
        reference = snapshot.parent.parent / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(snapshot.name, encoding="utf-8")


def _unreachable(address: str, name: str, revision: str | None, error: Exception) -> str:
    at = f" --revision {revision}" if revision else ""
    return (
        f"{address} is not in the cache of this machine, and the hub cannot be reached ({error}). On a machine with a "
        f"network run hf download {name}{at} --local-dir FOLDER, copy the folder, and name it in place of the address"
    )
