"""Which of this machine's network interfaces leads to another machine."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

_SIOCGIFADDR = 0x8915
"""Linux's request for the address of an interface."""
_NAME_BYTES = 15
_ADDRESS = slice(20, 24)
"""Where the answer has it."""


def own_address_towards(host: str) -> str | None:
    """The address that another machine would see of this one; no packet is sent for that.

    Args:
        host: a name or address, of this machine or another.

    Returns:
        An address of this machine; None where there is no way to the host.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect((host, 1))
        return str(probe.getsockname()[0])
    return None


def towards(host: str) -> str | None:
    """The name of the interface that leads to a host; None where that cannot be told, or if it is this one."""
    address = own_address_towards(host)
    if address is None or address.startswith("127.") or sys.platform != "linux":
        return None
    return next((name for _, name in socket.if_nameindex() if _address_of(name) == address), None)


def _address_of(name: str) -> str | None:
    import fcntl

    request = struct.pack("256s", name.encode()[:_NAME_BYTES])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[_ADDRESS])
    return None
