"""nginx in front of a server, at a Unix socket, as most deploys have it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# `keepalive` is the number of idle connections kept towards the server: all that wrk causes.
_CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    uwsgi_temp_path {directory}/uwsgi;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    upstream application {{ server unix:{path}; {keepalive} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            {version}
            {directive}application;
        }}
    }}
}}
"""
_KEEP_ALIVE = 'proxy_http_version 1.1; proxy_set_header Connection "";'


@contextlib.contextmanager
def nginx(port: int, path: Path, directive: str, *, keep_alive: bool) -> Iterator[None]:
    """Run nginx at `port` for the server at the Unix socket `path`.

    Args:
        port: Where nginx listens.
        path: The server's socket; it may be made later.
        directive: How nginx speaks to the server, such as `proxy_pass http://`.
        keep_alive: Whether nginx keeps its connections to the server.
    """
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as name:
        directory = Path(name)
        file = directory / "nginx.conf"
        file.write_text(
            _CONFIGURATION.format(
                # Else its worker is nobody, who may not open the servers' sockets.
                user="user root;" if os.geteuid() == 0 else "",
                directory=directory,
                path=path,
                port=port,
                keepalive="keepalive 32;" if keep_alive else "",
                version=_KEEP_ALIVE if keep_alive else "proxy_http_version 1.0;",
                directive=directive,
            )
        )
        process = subprocess.Popen(  # noqa: S603 - the configuration above
            ["nginx", "-p", name, "-c", file, "-e", directory / "error.log"],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
