"""Download of a file: resumable, verified by checksum, and atomic.

Each mirror gets `Patience.attempts` attempts. Connection errors, timeouts, truncated responses, 429 and 5xx are retried
after a pause; after any other status or a wrong checksum, the next mirror is used at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2_lightning.data.corpora.http import Failure, content_range, failure_of, retry_after, version_of, whole_number
from gpt2_lightning.errors import UserError

if TYPE_CHECKING:
    import requests

Progress = Callable[[str, int, int | None], None]
"""Callback of a download; takes the file's name, the bytes received, and the total bytes, or None if unknown."""

_CHUNK_BYTES = 2**16
_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE = 200, 206, 416
_TRY_AGAIN = {408, 425, 429}


@dataclass(frozen=True)
class Patience:
    """Attempts, timeouts and pauses for each mirror."""

    attempts: int = 5
    """Number of attempts for each mirror."""
    connect_seconds: float = 10
    read_seconds: float = 30
    """Read timeout: longest time without data within a response."""
    first_pause: float = 1.0
    """Seconds before the second attempt; doubled before each further one."""
    longest_pause: float = 60.0
    """Maximum of the doubled pause and of the server's Retry-After, in seconds."""

    def pause(self, tries: int, asked: float) -> float:
        """Return the seconds to wait after `tries` attempts; `asked` is the server's Retry-After."""
        return min(max(self.first_pause * 2 ** (tries - 1), asked), self.longest_pause)


PATIENCE = Patience()


def ignore(name: str, done: int, total: int | None) -> None:
    """Report no progress."""


def download(
    urls: Sequence[str],
    target: Path,
    sha256: str | None = None,
    progress: Progress = ignore,
    patience: Patience = PATIENCE,
) -> Path:
    """Download a file from the first mirror that provides it, unless it exists already.

    Received bytes are kept in `TARGET.part`, and a later call resumes from there: by Range, and by If-Range with the
    ETag or date of the version that was received. Without ETag and date, it resumes only if sha256 is given. Proxies
    are those of the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY). Of several processes, one downloads and the others
    wait.

    Args:
        urls: addresses of the file at its mirrors, the preferred one first.
        target: path of the file; its folder is created. The path exists only once the file is complete.
        sha256: checksum in hexadecimal; without it, only the length is verified.

    Raises:
        UserError: if no mirror provides the file, it cannot be written, or an existing target has another checksum.
    """
    from filelock import FileLock

    lock = Path(f"{target}.lock")
    try:
        if target.exists():
            return _checked(target, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if target.exists():
                _checked(target, sha256)
            else:
                _Download(target, sha256, progress, patience).run(urls)
            with contextlib.suppress(OSError):  # Windows does not delete open files
                lock.unlink()  # waiting processes then find the target
    except OSError as error:
        raise UserError(f"{target} cannot be read or written: {error.strerror}; choose a folder of yours") from None
    return target


def _checked(target: Path, sha256: str | None) -> Path:
    if sha256 is not None and (found := _digest(target)) != sha256.lower():
        raise UserError(
            f"{target} is another file than expected: its SHA-256 is {found}, expected {sha256.lower()}; "
            "delete it, and it is downloaded again"
        )
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Part:
    """The received part of a file, with a record of its mirror and version."""

    path: Path
    origin: Path

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> str | None:
        try:
            origin, version = self.origin.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return None
        return version or None if origin == url else None

    def begin(self, url: str, version: str | None) -> None:
        self.path.unlink(missing_ok=True)  # first, so that the old bytes are never paired with the new version
        self.origin.write_text(f"{url}\n{version or ''}\n", encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)


class _Download:
    """Download of one file."""

    def __init__(self, target: Path, sha256: str | None, progress: Progress, patience: Patience) -> None:
        self.target = target
        self.sha256 = sha256
        self.progress = progress
        self.patience = patience
        self.part = _Part(Path(f"{target}.part"), Path(f"{target}.part.origin"))

    def run(self, urls: Sequence[str]) -> None:
        import requests

        failures = []
        with requests.Session() as session:
            for url in urls:
                try:
                    return self._from_mirror(session, url)
                except Failure as failure:
                    failures.append(f"  {url}: {failure}")
        kept = ""
        if self.part.size() and (self.sha256 or any(self.part.version(url) for url in urls)):
            kept = f"; {self.part.size():,} bytes are kept in {self.part.path}, the same command goes on from there"
        raise UserError(
            "\n".join([f"{self.target.name} cannot be downloaded:", *failures])
            + "\ncheck the network, or the proxy in HTTP_PROXY and HTTPS_PROXY; or fetch the file on another machine "
            f"and put it at {self.target}{kept}"
        )

    def _from_mirror(self, session: requests.Session, url: str) -> None:
        import requests

        tries = 0
        while True:
            tries += 1
            try:
                return self._try(session, url)
            except requests.RequestException as error:
                failure = failure_of(error)
            except Failure as error:
                failure = error
            if not failure.again:
                raise failure
            if tries >= self.patience.attempts:
                raise Failure(f"{failure} (tried {tries} times)", again=False)
            time.sleep(self.patience.pause(tries, failure.pause))

    def _try(self, session: requests.Session, url: str) -> None:
        version = self.part.version(url)
        start = self.part.size() if version or self.sha256 else 0
        headers = {"Accept-Encoding": "identity", "User-Agent": "gpt2-lightning"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if version:
                headers["If-Range"] = version
        timeout = (self.patience.connect_seconds, self.patience.read_seconds)
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            start, total = self._accept(response, url, start, version)
            if response.status_code != _RANGE_NOT_SATISFIABLE:
                self._append(response, start, total)
        self._finish(resumed=start > 0)

    def _accept(self, response: requests.Response, url: str, start: int, version: str | None) -> tuple[int, int | None]:
        """Return the offset of a response's bytes in the file and its total length; `start` is the requested offset."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Failure("it sends the file compressed, though asked not to", again=False)
        code = response.status_code
        if code == _OK:
            self.part.begin(url, version_of(response))
            return 0, whole_number(response.headers.get("Content-Length"))
        if start and code in (_PARTIAL, _RANGE_NOT_SATISFIABLE):
            first, total = content_range(response)
            same = version is None or version_of(response) in (None, version)
            if same and start == (first if code == _PARTIAL else total):
                return start, total
            self.part.discard()
            raise Failure("the rest that it has does not fit what is here", again=True)
        again = code in _TRY_AGAIN or code >= 500
        raise Failure(f"HTTP {code} {response.reason or ''}".rstrip(), again, retry_after(response))

    def _append(self, response: requests.Response, done: int, total: int | None) -> None:
        import requests

        path = self.part.path
        if total is not None and total - done > shutil.disk_usage(path.parent).free:
            raise self._no_room(total - done, "No space left on device")
        self.progress(self.target.name, done, total)
        try:
            with path.open("ab") as file:
                for chunk in response.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    self.progress(self.target.name, done, total)
                file.flush()
                os.fsync(file.fileno())
        except requests.RequestException:  # a subclass of OSError, but not a disk error
            raise
        except OSError as error:
            raise self._no_room(None if total is None else total - self.part.size(), str(error.strerror)) from None
        if total is not None and done != total:
            raise Failure(f"the answer ended after {done:,} of {total:,} bytes", again=True)

    def _no_room(self, needed: int | None, reason: str) -> UserError:
        folder = self.part.path.parent
        size = "more bytes" if needed is None else f"{needed:,} bytes"
        return UserError(
            f"{self.target} cannot be written: {reason}; {size} are needed and {shutil.disk_usage(folder).free:,} are "
            f"free in {folder}; free some, or choose another folder"
        )

    def _finish(self, resumed: bool) -> None:
        if self.sha256 is not None and (found := _digest(self.part.path)) != self.sha256.lower():
            self.part.discard()
            # The error may be in a part from another mirror: the next attempt downloads the whole file from this one.
            raise Failure(f"wrong checksum: SHA-256 {found}, expected {self.sha256.lower()}", again=resumed)
        self.part.path.replace(self.target)
        self.part.origin.unlink(missing_ok=True)
