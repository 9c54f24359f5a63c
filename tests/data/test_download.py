import contextlib
import gzip
import hashlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from gpt2_lightning.data.corpora.download import Patience, download
from gpt2_lightning.errors import UserError
from tests.data.bad_server import Answer, BadServer, bad_server

QUICK = Patience(attempts=3, connect_seconds=2, read_seconds=0.4, first_pause=0.001, longest_pause=0.02)
BODY = b"".join(hashlib.sha256(bytes([n % 251, n // 251])).digest() for n in range(10_007))  # 320,224 bytes
OTHER = bytes(255 - byte for byte in BODY)
SHA256 = hashlib.sha256(BODY).hexdigest()
HALF = 160_001

PROGRAM = """
import sys
from pathlib import Path
from gpt2_lightning.data.corpora.download import Patience, download
download([sys.argv[1]], Path(sys.argv[2]), patience=Patience(read_seconds=30, first_pause=0.001))
"""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "input.txt"


def ranges(server: BadServer) -> list[str | None]:
    """What each request asked for of the file."""
    return [request.headers.get("Range") for request in server.requests]


def left_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_is_fetched_once_and_nothing_is_left_beside_it(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY))
    for _ in range(2):
        assert download([url], target, patience=QUICK) == target
        assert target.read_bytes() == BODY
    assert len(server.requests) == 1
    assert server.requests[0].headers["Accept-Encoding"] == "identity"
    assert left_beside(target) == ["input.txt"]


def test_progress_counts_up_to_the_whole(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, drops_after=HALF), Answer(BODY))
    seen: list[tuple[str, int, int | None]] = []
    download([url], target, SHA256, lambda *state: seen.append(state), QUICK)
    assert {(name, total) for name, _, total in seen} == {("input.txt", len(BODY))}
    done = [count for _, count, _ in seen]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == len(BODY)


def test_a_file_of_unknown_length_is_fetched(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, has_length=False))
    seen: list[int | None] = []
    download([url], target, SHA256, lambda name, done, total: seen.append(total), QUICK)
    assert set(seen) == {None}
    assert target.read_bytes() == BODY


def test_a_file_that_is_there_is_kept(server: BadServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert download([server.url + "/file"], target, SHA256.upper(), patience=QUICK) == target
    assert server.requests == []


def test_another_file_that_is_there_is_not_overwritten(server: BadServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(OTHER)
    url = server.answer("/file", Answer(BODY))
    with pytest.raises(UserError, match="delete it") as caught:
        download([url], target, SHA256, patience=QUICK)
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(OTHER).hexdigest() in str(caught.value)
    assert target.read_bytes() == OTHER
    assert server.requests == []


def test_redirects_are_followed(server: BadServer, target: Path) -> None:
    server.answer("/there", Answer(BODY))
    url = server.answer("/here", Answer(status=302, headers={"Location": "/there"}))
    assert download([url], target, patience=QUICK).read_bytes() == BODY


@pytest.mark.parametrize(
    "fault",
    [
        Answer(BODY, drops_after=HALF),
        Answer(BODY, stalls_after=HALF),
        Answer(BODY[:HALF], promises=len(BODY) - HALF),
    ],
    ids=["drops", "stalls", "says more than it sends"],
)
@pytest.mark.parametrize("dated", [False, True], ids=["by ETag", "by date"])
def test_a_broken_download_goes_on_where_it_stopped(
    server: BadServer, target: Path, fault: Answer, dated: bool
) -> None:
    date = {"Last-Modified": "Mon, 02 Mar 2020 11:00:00 GMT"}
    answers = [fault, Answer(BODY)]
    if dated:
        answers = [replace(answer, etag='W/"weak"', headers=date) for answer in answers]
    url = server.answer("/file", *answers)
    assert download([url], target, patience=QUICK).read_bytes() == BODY
    first, second = ranges(server)
    assert first is None
    assert second is not None
    assert HALF - 2**16 < int(second.removeprefix("bytes=").removesuffix("-")) <= HALF
    assert server.requests[1].headers["If-Range"] == (date["Last-Modified"] if dated else '"first"')
    assert left_beside(target) == ["input.txt"]


def test_without_a_version_or_checksum_it_starts_again(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, etag=None, drops_after=HALF), Answer(BODY, etag=None))
    assert download([url], target, patience=QUICK).read_bytes() == BODY
    assert ranges(server) == [None, None]


def test_without_a_version_but_with_a_checksum_it_goes_on(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, etag=None, drops_after=HALF), Answer(BODY, etag=None))
    assert download([url], target, SHA256, patience=QUICK).read_bytes() == BODY
    assert ranges(server)[1] is not None
    assert "If-Range" not in server.requests[1].headers


def test_a_server_that_knows_no_ranges_is_asked_for_all_of_it(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, drops_after=HALF), Answer(BODY, knows_ranges=False))
    assert download([url], target, patience=QUICK).read_bytes() == BODY


@pytest.mark.parametrize("minds_if_range", [True, False])
def test_a_file_that_changed_in_between_is_fetched_anew(server: BadServer, target: Path, minds_if_range: bool) -> None:
    changed = Answer(OTHER, etag='"second"', minds_if_range=minds_if_range)
    url = server.answer("/file", Answer(BODY, drops_after=HALF), changed)
    assert download([url], target, patience=QUICK).read_bytes() == OTHER


def test_a_part_from_elsewhere_than_asked_is_not_taken(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, drops_after=HALF), Answer(BODY, shifts_range=7), Answer(BODY))
    assert download([url], target, patience=QUICK).read_bytes() == BODY
    assert ranges(server)[2] is None


def test_a_part_that_is_smaller_than_asked_is_not_the_end(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, drops_after=HALF), Answer(BODY, at_most=7919), Answer(BODY))
    assert download([url], target, patience=QUICK).read_bytes() == BODY
    first, second, third = ranges(server)
    assert first is None
    assert int(str(third).removeprefix("bytes=")[:-1]) - int(str(second).removeprefix("bytes=")[:-1]) == 7919


def test_a_file_that_was_killed_before_its_last_step_is_not_fetched_again(server: BadServer, target: Path) -> None:
    """All bytes are there, and the server answers 416 to the rest."""
    url = server.answer("/file", Answer(BODY, drops_after=HALF))
    with pytest.raises(UserError):
        download([url], target, patience=Patience(attempts=1))
    Path(f"{target}.part").write_bytes(BODY)
    server.answer("/file", Answer(BODY))
    assert download([url], target, patience=QUICK).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={len(BODY)}-"]


def test_a_file_that_became_shorter_is_fetched_anew(server: BadServer, target: Path) -> None:
    """The server answers 416, and has fewer bytes than are here."""
    url = server.answer("/file", Answer(BODY, drops_after=HALF), Answer(BODY[:1009], minds_if_range=False))
    assert download([url], target, patience=QUICK).read_bytes() == BODY[:1009]
    assert ranges(server)[2] is None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_busy_server_is_asked_again(server: BadServer, target: Path, status: int) -> None:
    url = server.answer("/file", Answer(b"busy", status), Answer(b"busy", status), Answer(BODY))
    assert download([url], target, patience=QUICK).read_bytes() == BODY
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416])
def test_a_refusal_leads_to_the_next_mirror_at_once(server: BadServer, target: Path, status: int) -> None:
    urls = [server.answer("/refuses", Answer(b"no", status)), server.answer("/gives", Answer(BODY))]
    assert download(urls, target, patience=QUICK).read_bytes() == BODY
    assert [request.path for request in server.requests] == ["/refuses", "/gives"]


@pytest.mark.parametrize("dated", [False, True], ids=["seconds", "date"])
def test_the_pause_that_a_server_asks_for_is_kept_within_the_bound(
    server: BadServer, target: Path, dated: bool
) -> None:
    asked = format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True) if dated else "3600"
    url = server.answer("/file", Answer(b"", 429, {"Retry-After": asked}), Answer(BODY))
    start = time.monotonic()
    download([url], target, patience=Patience(first_pause=0.001, longest_pause=0.2))
    assert 0.2 <= time.monotonic() - start < 2


def test_pauses_double_up_to_the_bound() -> None:
    patience = Patience(first_pause=0.5, longest_pause=3)
    assert [patience.pause(tries, asked=0) for tries in (1, 2, 3, 4, 5)] == [0.5, 1, 2, 3, 3]
    assert patience.pause(1, asked=2.5) == 2.5
    assert patience.pause(3, asked=-7) == 2


def test_a_wrong_checksum_leads_to_the_next_mirror(server: BadServer, target: Path) -> None:
    urls = [server.answer("/wrong", Answer(OTHER)), server.answer("/right", Answer(BODY))]
    assert download(urls, target, SHA256, patience=QUICK).read_bytes() == BODY
    assert ranges(server) == [None, None]


def test_the_second_half_comes_from_another_mirror_where_the_checksum_tells(server: BadServer, target: Path) -> None:
    urls = [
        server.answer("/half", Answer(BODY, drops_after=HALF), Answer(status=404)),
        server.answer("/whole", Answer(BODY, etag='"another"')),
    ]
    assert download(urls, target, SHA256, patience=QUICK).read_bytes() == BODY
    assert ranges(server)[2] is not None


def test_a_good_mirror_is_not_blamed_for_a_bad_first_half(server: BadServer, target: Path) -> None:
    urls = [
        server.answer("/bad-half", Answer(OTHER, drops_after=HALF), Answer(status=404)),
        server.answer("/good", Answer(BODY)),
    ]
    assert download(urls, target, SHA256, patience=QUICK).read_bytes() == BODY
    assert ranges(server)[3] is None


def test_halves_of_two_mirrors_are_not_joined_without_a_checksum(server: BadServer, target: Path) -> None:
    urls = [
        server.answer("/half", Answer(OTHER, drops_after=HALF), Answer(status=404)),
        server.answer("/whole", Answer(BODY)),
    ]
    assert download(urls, target, patience=QUICK).read_bytes() == BODY


def test_a_compressed_answer_is_refused(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(gzip.compress(BODY), headers={"Content-Encoding": "gzip"}))
    with pytest.raises(UserError, match="it sends the file compressed"):
        download([url], target, patience=QUICK)
    assert len(server.requests) == 1


def test_when_all_mirrors_fail_each_is_named_with_its_reason(server: BadServer, target: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        urls = [
            nobody,
            server.url + "/nowhere",
            server.answer("/wrong", Answer(OTHER)),
            server.answer("/silent", Answer(BODY, stalls_after=0)),
            server.answer("/half", Answer(BODY, drops_after=HALF), Answer(b"", 503)),
            "no address",
        ]
        with pytest.raises(UserError) as caught:
            download(urls, target, SHA256, patience=QUICK)
    message = str(caught.value)
    lines = message.splitlines()
    assert lines[0] == "input.txt cannot be downloaded:"
    assert "Connection refused (tried 3 times)" in lines[1]
    assert lines[1].startswith(f"  {nobody}: ")
    assert lines[2] == f"  {server.url}/nowhere: HTTP 404 Not Found"
    assert "wrong checksum" in lines[3]
    assert "timed out (tried 3 times)" in lines[4]
    assert "HTTP 503 Service Unavailable (tried 3 times)" in lines[5]
    assert lines[6].startswith("  no address: Failed to parse")
    kept = Path(f"{target}.part").stat().st_size
    assert 0 < kept <= HALF
    assert f"{kept:,} bytes are kept in {target}.part" in message
    assert f"put it at {target}" in message
    assert "HTTPS_PROXY" in message
    assert not target.exists()


def test_a_mirror_without_a_valid_certificate_is_asked_once(server: BadServer, target: Path) -> None:
    """It does not even speak TLS; trying again changes nothing."""
    url = server.url.replace("http:", "https:")
    with pytest.raises(UserError, match="SSL") as caught:
        download([url], target, patience=QUICK)
    assert "tried" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue is not silent")
def test_a_mirror_that_takes_no_connection_is_left(target: Path) -> None:
    with contextlib.ExitStack() as sockets:
        busy = sockets.enter_context(socket.socket())
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for _ in range(3):  # the queue is full from the second on
            caller = sockets.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(busy.getsockname())
        url = f"http://127.0.0.1:{busy.getsockname()[1]}/file"
        start = time.monotonic()
        with pytest.raises(UserError, match="timed out"):
            download([url], target, patience=Patience(attempts=1, connect_seconds=0.1, read_seconds=30))
        assert time.monotonic() - start < 5


def test_bytes_that_cannot_be_used_later_are_not_called_kept(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, etag=None, drops_after=HALF))
    with pytest.raises(UserError) as caught:
        download([url], target, patience=QUICK)
    assert "kept" not in str(caught.value)
    assert "broke off in the middle (tried 3 times)" in str(caught.value)


def test_ctrl_c_leaves_what_has_arrived(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY))

    def stop(name: str, done: int, total: int | None) -> None:
        if done > HALF:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download([url], target, progress=stop, patience=QUICK)
    kept = Path(f"{target}.part").stat().st_size
    assert kept > HALF
    assert download([url], target, patience=QUICK).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={kept}-"]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_killed_download_goes_on_where_it_stopped_in_another_process(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, stalls_after=HALF), Answer(BODY))
    part = Path(f"{target}.part")
    with subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(target)]) as process:
        wait_until(lambda: part.exists() and part.stat().st_size >= 2**16)
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    kept = part.stat().st_size
    assert download([url], target, patience=QUICK).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={kept}-"]
    assert left_beside(target) == ["input.txt"]


def test_of_several_processes_one_downloads(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, seconds_a_step=0.15))
    command = [sys.executable, "-c", PROGRAM, url, str(target)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1
    assert left_beside(target) == ["input.txt"]


def test_the_proxy_of_the_environment_is_used(server: BadServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.answer("http://mirror.invalid/file", Answer(BODY))
    assert download(["http://mirror.invalid/file"], target, patience=QUICK).read_bytes() == BODY
    assert [request.path for request in server.requests] == ["http://mirror.invalid/file"]


def test_a_proxy_that_is_not_there_is_named(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UserError, match=r"the proxy: .*Connection refused"):
            download(["http://mirror.invalid/file"], target, patience=QUICK)


def test_the_reason_is_not_mixed_with_an_error_of_the_caller(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(BODY, stalls_after=0))
    try:
        (target / "missing").read_bytes()
    except FileNotFoundError:
        with pytest.raises(UserError, match="timed out") as caught:
            download([url, "no address"], target, patience=QUICK)
    assert "No such file" not in str(caught.value)


def test_a_full_disk_keeps_what_fits_and_names_the_sizes(server: BadServer, target: Path) -> None:
    resource = pytest.importorskip("resource", reason="the size of a file can be limited on POSIX only")
    url = server.answer("/file", Answer(BODY))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_003, before[1]))
    try:
        with pytest.raises(UserError, match=r"File too large; ([\d,]+) bytes are needed and [\d,]+ are free") as caught:
            download([url], target, patience=QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = Path(f"{target}.part").stat().st_size
    assert 0 < kept <= 100_003
    assert f"{len(BODY) - kept:,} bytes are needed" in str(caught.value)
    assert len(server.requests) == 1
    assert download([url], target, patience=QUICK).read_bytes() == BODY
    assert ranges(server)[1] == f"bytes={kept}-"


def test_a_file_larger_than_the_disk_is_not_begun(server: BadServer, target: Path) -> None:
    url = server.answer("/file", Answer(headers={"Content-Length": str(10**18)}))
    with pytest.raises(UserError, match="1,000,000,000,000,000,000 bytes are needed"):
        download([url], target, patience=QUICK)
    assert not Path(f"{target}.part").exists()


def test_a_folder_that_cannot_be_made_is_named(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    target = tmp_path / "file" / "input.txt"
    with pytest.raises(UserError, match=r"input\.txt cannot be read or written: (?!None)"):
        download([server.url + "/file"], target, patience=QUICK)


def test_a_folder_in_the_place_of_the_file_is_named(server: BadServer, target: Path) -> None:
    target.mkdir(parents=True)
    with pytest.raises(UserError, match=r"input\.txt cannot be read or written: Is a directory"):
        download([server.url + "/file"], target, SHA256, patience=QUICK)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, gpt2_lightning.data.corpora.download; print('requests' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
