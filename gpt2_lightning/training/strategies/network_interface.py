"""The network interface of this machine that routes to another machine."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

_SIOCGIFADDR = 0x8915
"""Linux's request for the address of an interface."""
_NAME_BYTES = 15
_ADDRESS = slice(20, 24)
"""Bytes of the response that contain the address."""


def own_address_towards(host: str) -> str | None:
    """Return the local address of the route to a host, without sending a packet.

    Args:
        host: name or address of this machine or another.

    Returns:
        An address of this machine; None without a route to the host.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect((host, 1))
        return str(probe.getsockname()[0])
    return None


def towards(host: str) -> str | None:
    """Return the name of the interface that routes to a host; None if unknown, or if the host is this machine."""
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
