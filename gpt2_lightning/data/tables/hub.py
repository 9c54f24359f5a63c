"""Records of a dataset read with `datasets`, from the Hugging Face Hub or a local folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2_lightning.data.tables.records import Record
from gpt2_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

_REVISION = re.compile(r"(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)*")


def read_dataset(
    name: str, config: str | None, revision: str | None, without_network: str | None = None
) -> dict[str, Iterator[Record]]:
    """Read the records of each split. No code of the dataset is run, since the library reads data files only.

    Args:
        name: a folder of `.parquet`, `.jsonl`, … files named after their splits, or NAME or OWNER/NAME on the Hub.
        config: configuration of the dataset, if it has several.
        revision: commit; required for a dataset on the Hub, since a branch changes over time.
        without_network: advice for where the Hub cannot be reached; None for that about `data.path`.

    Raises:
        UserError: if the dataset cannot be loaded, or `datasets` is not installed.
    """
    folder = Path(name).expanduser()
    is_local = folder.is_dir()
    if not is_local and revision is None:
        raise UserError(
            f"data.revision: hf:{name} is no folder here, and a data set of the hub needs the commit to read, so that "
            "everyone has the same rows; set data.revision=COMMIT"
        )
    if revision is not None and not _REVISION.fullmatch(revision):
        raise UserError(
            f"data.revision: {revision!r} is no commit, tag or branch; copy the commit of {name} from the hub"
        )
    try:
        import datasets
    except ImportError:
        raise UserError("reading hf: needs datasets; install it with pip install 'gpt2-lightning[datasets]'") from None
    try:
        splits = datasets.load_dataset(str(folder.absolute()) if is_local else name, config, revision=revision)
    except ConnectionError as error:
        download = f"`hf download --repo-type dataset {name} --revision {revision} --local-dir FOLDER`"
        advice = without_network or (
            f"run this once where there is one ({download}), copy the folder here and set data.path=hf:FOLDER"
        )
        raise UserError(
            f"data.path: hf:{name} cannot be fetched: {error}. Where there is no network, {advice}"
        ) from None
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"data.path: hf:{name} cannot be read: {error.__cause__ or error}") from None
    return {str(split): _records(rows, f"hf:{name}, {split}") for split, rows in splits.items()}


def _records(rows: Dataset, place: str) -> Iterator[Record]:
    """Yield the rows, with class indices replaced by names if the dataset defines them."""
    features = {column: getattr(feature, "feature", feature) for column, feature in rows.features.items()}
    names = {column: feature.names for column, feature in features.items() if hasattr(feature, "names")}
    for number, values in enumerate(rows.to_list(), 1):
        named = {column: _named(values[column], names[column]) for column in names}
        yield Record(f"{place}, row {number}", {**values, **named})


def _named(value: Any, names: list[str]) -> Any:
    """Convert a class index, or a list of them, to names. None and -1 are missing labels."""
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    return None if value is None or value < 0 else names[value]
