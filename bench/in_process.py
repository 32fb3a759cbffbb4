"""Print the CPU time, in microseconds, that one call of a WSGI application takes.

The floor of every server: the application called in a loop, its body joined, `close()`
called, nothing parsed and nothing sent.
"""

from __future__ import annotations

import importlib
import io
import sys
import time
from typing import Any
from wsgiref.util import setup_testing_defaults

CALLS = 4000


def main(wsgi_module: str, path: str) -> None:
    """Call `wsgi_module.application` for `path`, after a warm-up of a tenth."""
    application = importlib.import_module(wsgi_module).application
    base: dict[str, Any] = {}
    setup_testing_defaults(base)
    base.update(PATH_INFO=path, HTTP_HOST="localhost", SCRIPT_NAME="")

    def call() -> None:
        environ = {**base, "wsgi.input": io.BytesIO()}
        result = application(environ, lambda _status, _headers, _exc_info=None: None)
        b"".join(result)
        if hasattr(result, "close"):
            result.close()

    for _ in range(CALLS // 10):
        call()
    started_s = time.process_time()
    for _ in range(CALLS):
        call()
    print((time.process_time() - started_s) / CALLS * 1e6)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
