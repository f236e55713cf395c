"""Loaded by every Python process whose PYTHONPATH holds this folder: whatever tries to leave this machine is refused, and noted.

An audit hook sees every `connect`, `sendto` and name look-up of Python's sockets, and code can't take it out again. Unix sockets and
this machine's own addresses (Jupyter's) stay allowed. What was tried is appended to the file OFFLINE_LOG, because a library may
swallow the refusal and go on.
"""

import ipaddress
import os
import sys

LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg"}


def is_local(host) -> bool:
    """Whether a host is this machine, by its name or number; None and "" are."""
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if not host or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def refuse(event: str, arguments: tuple) -> None:
    if event in LOOKUPS:
        host = arguments[0]
        host = host[0] if isinstance(host, tuple) else host
    elif event in SENDING and isinstance(arguments[1], tuple):  # a path or None: a Unix socket, or one that is connected
        host = arguments[1][0]
    else:
        return
    if is_local(host):
        return
    with open(os.environ["OFFLINE_LOG"], "a", encoding="utf-8") as log:
        log.write(f"{event} {host!r} in {' '.join(sys.argv[:3])}\n")
    raise OSError(f"offline: {event} of {host!r} is refused")


sys.addaudithook(refuse)
