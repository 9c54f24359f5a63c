"""Rendezvous of several machines by torch's `c10d` backend, as with `torchrun --nnodes`."""

from __future__ import annotations

import math
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.strategies.network_interface import own_address_towards

if TYPE_CHECKING:
    from torch.distributed import TCPStore

_POLL_SECONDS = 0.2
_SECONDS_TO_CONNECT = 5.0
_AFTER_ALL_ADDRESSES = "~"


@dataclass(frozen=True)
class Rendezvous:
    """Rendezvous of a run, from the view of one machine."""

    host: str
    """Name or address of the machine that hosts the store, as configured."""
    port: int
    num_nodes: int
    timeout: float
    """Seconds to wait for the other machines."""
    own_address: str | None
    """Address of this machine on the network of the host."""
    store: TCPStore | None
    """The store, on the machine that hosts it. It is kept for the rendezvous after a restart."""

    @classmethod
    def open(cls, host: str, port: int, num_nodes: int, timeout: float) -> Rendezvous:
        """Host the store, or wait until it is reachable.

        Args:
            host: one of the machines, by name or address.
            port: a free port of that machine.
            num_nodes: number of machines.
            timeout: seconds to wait for that machine.

        Raises:
            UserError: if the host is unknown, the port is in use, or the connection times out.
        """
        try:
            address = socket.gethostbyname(host)
        except OSError as error:
            raise UserError(
                f"trainer.rdzv_endpoint: this machine does not know the host {host} ({error.strerror}); check the "
                "name, or give its address"
            ) from None
        store, own_address = None, own_address_towards(address)
        if own_address == address:
            store = _host_store(host, port, timeout)
        else:
            _wait_until_open(host, address, port, timeout)
        return cls(host, port, num_nodes, timeout, own_address, store)

    def launch_config(self, start: int) -> dict[str, Any]:
        """Perform the rendezvous, and return arguments of torch's `LaunchConfig`.

        The agents use a static rendezvous: a `c10d` rendezvous is polled during training, and a poll over a broken
        connection does not return.

        Args:
            start: number of previous starts.

        Raises:
            UserError: if the rendezvous times out.
        """
        return {
            "rdzv_backend": "static",
            "rdzv_endpoint": f"{self.host}:{self.port}",
            "rdzv_configs": {"rank": self._meet(start), "timeout": self.timeout},
            "run_id": f"start-{start}",
        }

    def _meet(self, start: int) -> int:
        """Return the rank of this machine; the host has rank zero.

        Torch ranks machines by address in alphabetical order, and connects only to the address of rank zero. The
        addresses of all others therefore get a prefix that sorts last.
        """
        from torch.distributed.elastic.rendezvous import RendezvousParameters, registry
        from torch.distributed.elastic.rendezvous.api import RendezvousError, RendezvousTimeoutError

        is_host, seconds = self.store is not None, math.ceil(self.timeout)
        place = f"{self.host}:{self.port}"
        parameters = RendezvousParameters(
            backend="c10d",
            endpoint=place,
            run_id=f"meeting-{start}",
            min_nodes=self.num_nodes,
            max_nodes=self.num_nodes,
            local_addr=self.host if is_host else f"{_AFTER_ALL_ADDRESSES}{self.own_address}",
            is_host=is_host,
            read_timeout=seconds,
            join_timeout=seconds,
        )
        try:
            rank: int = registry.get_rendezvous_handler(parameters).next_rendezvous().rank
            return rank
        except RendezvousTimeoutError:
            raise UserError(
                f"trainer.num_nodes: this machine waited {self.timeout:g} seconds (trainer.timeout) for "
                f"{self.num_nodes} machines to meet at {place}; start the same command on each, and on no other machine"
            ) from None
        except RendezvousError as error:
            raise UserError(
                f"trainer.rdzv_endpoint: the connection to {place}, where the machines meet, was lost ({error}); start "
                "the same command on each machine again"
            ) from None


def _host_store(host: str, port: int, timeout: float) -> TCPStore:
    from torch.distributed import DistNetworkError, TCPStore

    try:
        return TCPStore(
            host, port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout), multi_tenant=True
        )
    except DistNetworkError as error:
        why = "in use by another program" if "EADDRINUSE" in str(error) else f"refused ({error})"
        raise UserError(
            f"trainer.rdzv_endpoint: port {port} of {host} is {why}; choose another, on all machines"
        ) from None


def _wait_until_open(host: str, address: str, port: int, timeout: float) -> None:
    """Wait until the store is reachable; in Python, since Ctrl-C does not interrupt torch's own wait."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((address, port), _SECONDS_TO_CONNECT).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"trainer.rdzv_endpoint: {host}:{port} did not answer for {timeout:g} seconds "
                    f"({error.strerror or error}); start the same command on {host}, and let its port {port} through"
                ) from None
            time.sleep(_POLL_SECONDS)
