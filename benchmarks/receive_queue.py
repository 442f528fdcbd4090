"""Ask the Linux kernel how many bytes a peer on this machine has not read yet.

``SIOCOUTQ`` is no alternative: it counts the bytes that the kernel has not acknowledged, and the
kernel acknowledges bytes before a program reads them.
"""

from __future__ import annotations

import socket
import struct
import time

_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 20, 1
_REQUEST = struct.Struct("=IHHII BBBxI HH4s12x4s12xIII".replace(" ", ""))
_RQUEUE = struct.Struct("=I")
_RQUEUE_AT = 16 + 4 + 48 + 4  # netlink header, states, socket identity, expiry
_POLL = 0.00002  # Seconds.


class ReceiveQueue:
    """The receive queue of the other end of a connection over 127.0.0.1."""

    def __init__(self, sock: socket.socket) -> None:
        (own_host, own_port), (host, port) = sock.getsockname(), sock.getpeername()
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)  # NETLINK_SOCK_DIAG
        self._request = _REQUEST.pack(
            _REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0,
            socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF,
            socket.htons(port), socket.htons(own_port),
            socket.inet_aton(host), socket.inet_aton(own_host),
            0, 0xFFFFFFFF, 0xFFFFFFFF,
        )  # fmt: skip

    def unread(self) -> int:
        """Return the number of unread bytes; 0 if the peer is gone."""
        self._netlink.send(self._request)
        found = self._netlink.recv(4096)
        if len(found) < _RQUEUE_AT + _RQUEUE.size + 8 or found[4] != _SOCK_DIAG_BY_FAMILY:
            return 0
        return int(_RQUEUE.unpack_from(found, _RQUEUE_AT)[0])

    def wait_until_read(self) -> None:
        """Return once the peer has read everything."""
        while self.unread():
            time.sleep(_POLL)

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()
