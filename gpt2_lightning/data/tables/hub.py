"""Records of a data set that the `datasets` library reads, from its hub or from a folder of its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2_lightning.data.tables.records import Record
from gpt2_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def read_dataset(name: str, config: str | None, revision: str | None) -> dict[str, Iterator[Record]]:
    """The records of each split. No code of a data set is run: the library takes data files alone.

    Args:
        name: a folder of `.parquet`, `.jsonl`, … named by their splits, or NAME or OWNER/NAME on the hub.
        config: which of its configurations, where it has several.
        revision: the commit to read; a data set of the hub needs one, since a branch moves.

    Raises:
        UserError: if it cannot be had, or `datasets` is not installed.
    """
    folder = Path(name).expanduser()
    is_local = folder.is_dir()
    if not is_local and revision is None:
        raise UserError(
            f"data.revision: hf:{name} is no folder here, and a data set of the hub needs the commit to read, so that "
            "everyone has the same rows; set data.revision=COMMIT"
        )
    try:
        import datasets
    except ImportError:
        raise UserError("reading hf: needs datasets; install it with pip install 'gpt2-lightning[datasets]'") from None
    try:
        splits = datasets.load_dataset(str(folder.absolute()) if is_local else name, config, revision=revision)
    except ConnectionError as error:
        raise UserError(
            f"data.path: hf:{name} cannot be fetched: {error}. Where there is no network, run this once where there is "
            f"one (`hf download --repo-type dataset {name} --revision {revision} --local-dir FOLDER`), copy the folder "
            "here and set data.path=hf:FOLDER"
        ) from None
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"data.path: hf:{name} cannot be read: {error.__cause__ or error}") from None
    return {str(split): _records(rows, f"hf:{name}, {split}") for split, rows in splits.items()}


def _records(rows: Dataset, place: str) -> Iterator[Record]:
    """Rows with the names of their classes in place of the numbers, where the data set knows them."""
    features = {column: getattr(feature, "feature", feature) for column, feature in rows.features.items()}
    names = {column: feature.names for column, feature in features.items() if hasattr(feature, "names")}
    for number, values in enumerate(rows.to_list(), 1):
        named = {column: _named(values[column], names[column]) for column in names}
        yield Record(f"{place}, row {number}", {**values, **named})


def _named(value: Any, names: list[str]) -> Any:
    """The name of a class, or the names of several. None and -1 are missing labels."""
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    return None if value is None or value < 0 else names[value]
