"""Serve a WSGI application with bjoern, which has no command of its own.

Several workers are forks that share the listening socket, as bjoern's documentation does it.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module


def main(wsgi_module: str, workers: int, address: str) -> None:
    """Listen at `address` (`host:port` or `unix:path`) and serve until SIGTERM."""
    bjoern = import_module("bjoern")
    application = import_module(wsgi_module).application
    if address.startswith("unix:"):
        bjoern.listen(application, address)
    else:
        host, _, port = address.rpartition(":")
        bjoern.listen(application, host, int(port))
    children: list[int] = []
    for _ in range(workers if workers > 1 else 0):
        pid = os.fork()
        if not pid:
            bjoern.run()
        children.append(pid)
    if not children:
        bjoern.run()

    def stop(*_: object) -> None:
        for child in children:
            os.kill(child, signal.SIGKILL)
        sys.exit()

    signal.signal(signal.SIGTERM, stop)
    os.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
