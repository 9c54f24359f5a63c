"""Machines that meet by torch's rendezvous. Here they are threads, and the host is this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from gpt2_lightning.app.launch import rendezvous
from gpt2_lightning.app.launch.rendezvous import Rendezvous
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.strategies import network_interface


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens at."""
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        yield other.getsockname()[1]


def follow(monkeypatch: pytest.MonkeyPatch, own: str | None = "10.0.0.7") -> None:
    """Take the host for another machine."""
    monkeypatch.setattr(rendezvous, "own_address_towards", lambda host: own)


def test_the_host_has_rank_zero_at_each_start(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [Rendezvous.open("127.0.0.1", port, 3, timeout=60)]
    for address in ("10.0.0.7", "0.0.0.1"):
        follow(monkeypatch, address)
        machines.append(Rendezvous.open("127.0.0.1", port, 3, timeout=60))
    assert [machine.store is not None for machine in machines] == [True, False, False]
    for start in (0, 1):  # the second after a process died
        ranks: dict[int, int] = {}

        def meet(number: int, start: int = start, ranks: dict[int, int] = ranks) -> None:
            config = machines[number].launch_config(start)
            assert config["rdzv_endpoint"] == f"127.0.0.1:{port}"
            ranks[number] = config["rdzv_configs"]["rank"]

        threads = [threading.Thread(target=meet, args=(number,)) for number in (2, 1, 0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ranks[0] == 0
        assert sorted(ranks.values()) == [0, 1, 2]
    assert not [thread for thread in threading.enumerate() if "KeepAlive" in thread.name]


def test_machines_that_do_not_come_are_missed(port: int) -> None:
    machine = Rendezvous.open("127.0.0.1", port, 2, timeout=1)
    with pytest.raises(UserError, match=rf"num_nodes.* 1 seconds.* 2 machines.* 127\.0\.0\.1:{port}"):
        machine.launch_config(0)


def test_a_busy_port_is_named(taken: int) -> None:
    with pytest.raises(UserError, match=rf"port {taken} of localhost is in use by another program"):
        Rendezvous.open("localhost", taken, 2, timeout=1)


def test_a_machine_that_does_not_answer_is_named(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(monkeypatch)
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} did not answer for 0\.1 seconds"):
        Rendezvous.open("127.0.0.1", port, 2, timeout=0.1)


def test_an_unknown_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.gethostbyname", unknown)
    with pytest.raises(UserError, match="does not know the host machine-7"):
        Rendezvous.open("machine-7", 29400, 2, timeout=1)


def test_the_loopback_leads_to_no_other_machine() -> None:
    assert network_interface.own_address_towards("127.0.0.1") == "127.0.0.1"
    assert network_interface.towards("127.0.0.1") is None
