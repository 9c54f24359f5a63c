"""Several machines that train one model: how they find each other."""

from __future__ import annotations

import errno
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from gpt2_lightning.errors import UserError
from gpt2_lightning.training.strategies.network_interface import own_address_towards

if TYPE_CHECKING:
    from torch.distributed import TCPStore

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_CONNECT = 5.0


@dataclass(frozen=True)
class Meeting:
    """The place where machines meet, which one of them keeps; all that is written there can be read by the others."""

    host: str
    port: int
    machines: int
    """How many there are to be."""
    leads: bool
    """Whether this machine keeps the place. Its first process is the first of all."""
    store: TCPStore
    timeout: float
    """Seconds to wait for the others."""

    @classmethod
    def at(cls, host: str, port: int, machines: int, timeout: float) -> Meeting:
        """Open the place, or go there.

        Args:
            host: one of the machines, by name or address.
            port: a free one of that machine.
            machines: see `machines`.
            timeout: seconds to wait for that machine.

        Raises:
            UserError: if the host is unknown, the port is in use, or nobody answers.
        """
        from torch.distributed import TCPStore

        try:
            address = socket.gethostbyname(host)
        except OSError as error:
            raise UserError(
                f"trainer.rdzv_endpoint: this machine does not know the host {host} ({error.strerror}); check the "
                "name, or give its address"
            ) from None
        leads = own_address_towards(address) == address
        if leads:
            _require_free(host, port)
        else:
            _wait_until_open(host, address, port, timeout)
        store = TCPStore(
            host, port, is_master=leads, wait_for_workers=False, timeout=timedelta(seconds=timeout), multi_tenant=True
        )
        return cls(host, port, machines, leads, store, timeout)

    def number(self, start: int) -> int:
        """The number of this machine, when all are here; 0 for the one that leads.

        Args:
            start: how often the run was started before.

        Raises:
            UserError: if too many come, or too few in time.
        """
        number = 0 if self.leads else self.store.add(f"machines/{start}", 1)
        if number >= self.machines:
            raise UserError(
                f"trainer.num_nodes: {self.machines} machines have met at {self.host}:{self.port} already, and this is "
                "one more; set trainer.num_nodes to the number of machines, on all of them"
            )
        self.store.set(_here(start, number), "")
        wanted = {_here(start, other): other for other in range(self.machines)}
        deadline = time.monotonic() + self.timeout
        while missing := [other for key, other in wanted.items() if not self.store.check([key])]:
            if time.monotonic() > deadline:
                raise UserError(
                    f"trainer.num_nodes: {self.machines - len(missing)} of {self.machines} machines have come to "
                    f"{self.host}:{self.port} in {self.timeout:g} seconds (trainer.timeout); start the same command on "
                    "each"
                )
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return number


def _here(start: int, number: int) -> str:
    return f"machine/{start}/{number}"


def _require_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the store does: a port may just have been closed
        try:
            probe.bind(("", port))
        except OSError as error:
            why = "in use by another program" if error.errno == errno.EADDRINUSE else f"refused ({error.strerror})"
            raise UserError(
                f"trainer.rdzv_endpoint: port {port} of {host} is {why}; choose another, on all machines"
            ) from None


def _wait_until_open(host: str, address: str, port: int, timeout: float) -> None:
    """Wait until the machine that keeps the place is there; in Python, so that a Ctrl-C is heard."""
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
            time.sleep(_SECONDS_BETWEEN_LOOKS)
