"""Machines that meet. Here they are threads, and those that lead are this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from gpt2_lightning.app.launch import rendezvous
from gpt2_lightning.app.launch.rendezvous import Meeting
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.strategies import network_interface


@pytest.fixture
def port() -> int:
    """A free one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def taken() -> Iterator[int]:
    """One that another program listens at."""
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        yield other.getsockname()[1]


def follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine take the other's address for one that is not its own."""
    monkeypatch.setattr(rendezvous, "own_address_towards", lambda host: None)


def test_machines_get_numbers_and_the_one_that_keeps_the_place_leads(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    leading = Meeting.at("127.0.0.1", port, 3, timeout=20)
    follow(monkeypatch)
    meetings = [leading, *(Meeting.at("127.0.0.1", port, 3, timeout=20) for _ in range(2))]
    assert [meeting.leads for meeting in meetings] == [True, False, False]
    for start in (0, 1):  # the second after a process died
        numbers: dict[int, int] = {}

        def take_number(place: int, start: int = start, numbers: dict[int, int] = numbers) -> None:
            numbers[place] = meetings[place].number(start)

        threads = [threading.Thread(target=take_number, args=(place,)) for place in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert numbers[0] == 0
        assert sorted(numbers.values()) == [0, 1, 2]
    with pytest.raises(UserError, match=rf"3 machines have met at 127\.0\.0\.1:{port} already"):
        meetings[1].number(start=1)


def test_machines_that_do_not_come_are_counted(port: int) -> None:
    meeting = Meeting.at("127.0.0.1", port, 2, timeout=0.2)
    with pytest.raises(UserError, match=rf"1 of 2 machines have come to 127\.0\.0\.1:{port} in 0\.2 seconds"):
        meeting.number(start=0)


def test_a_busy_port_is_named(taken: int) -> None:
    with pytest.raises(UserError, match=rf"port {taken} of localhost is in use by another program; choose another"):
        Meeting.at("localhost", taken, 2, timeout=1)


def test_a_machine_that_does_not_answer_is_named(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(monkeypatch)
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} did not answer for 0\.1 seconds"):
        Meeting.at("127.0.0.1", port, 2, timeout=0.1)


def test_an_unknown_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.gethostbyname", unknown)
    with pytest.raises(UserError, match="does not know the host machine-7"):
        Meeting.at("machine-7", 29400, 2, timeout=1)


def test_the_loopback_leads_to_no_other_machine() -> None:
    assert network_interface.own_address_towards("127.0.0.1") == "127.0.0.1"
    assert network_interface.towards("127.0.0.1") is None
