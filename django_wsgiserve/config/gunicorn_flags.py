"""What becomes of a Gunicorn flag that no setting of ours carries.

A deploy's command line is to change by its first two words. Flags of the same meaning
are names of a row in `table.py`; here are the others: those that nothing needs to be
done for, and those that cannot be honoured and so must not be swallowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What is done with a flag."""

    UNNEEDED = "accepted; what it asks for holds anyway"
    REFUSED = "refused; what it asks for has to be done in another way"


@dataclass(frozen=True, slots=True)
class GunicornFlag:
    """One flag, in all its spellings.

    Attributes:
        names: As on the command line.
        values: How many words follow it: 0, 1, or `?` for one that may be left out.
        verdict: What is done with it.
        advice: Why nothing is needed, or what to do instead; completes "--flag: …".
    """

    names: tuple[str, ...]
    values: int | str
    verdict: Verdict
    advice: str


_TLS = "TLS is not spoken here; terminate it in the proxy in front"
_LOGGING = (
    "logs are configured in Django's LOGGING, by the loggers django_wsgiserve.access and "
    "django_wsgiserve.server"
)
_SYSLOG = f'{_LOGGING}, with a handler of the class "logging.handlers.SysLogHandler"'
_USER = "start the server as that user: User= under systemd, USER in a Dockerfile, or setpriv"
_STRICT = "requests are read strictly, or a proxy in front might read them differently"
_RELOAD = "send HUP to reload; to watch files while developing, use manage.py runserver"
_PROXY = "the PROXY protocol is not spoken; let the proxy send X-Forwarded-For"
_HTTP = "only HTTP/1.1 is spoken; let the proxy in front talk it to this server"
_ASGI = "this is a WSGI server; serve settings.ASGI_APPLICATION with an ASGI server"
_DIRTY = "there are no dirty workers; use a task queue"
_STATSD = "nothing is sent to StatsD; count the lines of the access log"
_CONTROL = "there is no such control socket; send signals to the supervisor's process id"
_PASTE = "settings.WSGI_APPLICATION is served; point it to what PasteDeploy would load"
_SHELL = "set it where the server is started"

_UNNEEDED: tuple[tuple[str, int | str, str], ...] = (
    ("--preload", 0, "the project is always loaded once, before workers are forked"),
    ("--worker-tmp-dir", 1, "workers beat in shared memory, without a file"),
    ("--reuse-port", 0, "all workers accept from one socket"),
    ("--disable-redirect-access-to-syslog", 0, "the access log goes nowhere but where it is told"),
    ("-R --enable-stdio-inheritance", 0, "workers always inherit standard output and error"),
    ("--http-parser", 1, "there is one parser"),
    ("--suppress-ragged-eofs", 0, "TLS is not spoken here, so nothing is to be suppressed"),
    ("--no-control-socket", 0, "there is none"),
    ("--no-sendfile", 0, "sendfile is used where it works, and is given up where it does not"),
)  # fmt: skip

_REFUSED: tuple[tuple[str, int | str, str], ...] = (
    ("-c --config", 1, "no Python file is read; write the values to WSGISERVE in settings.py"),
    ("--reload", 0, _RELOAD),
    ("--reload-engine", 1, _RELOAD),
    ("--reload-extra-file", 1, _RELOAD),
    ("--spew", 0, "use python -m trace"),
    ("--chdir", 1, "change the directory first: cd DIR && python manage.py runprod"),
    ("-D --daemon", 0, "stays in the foreground; run it under systemd or in a container"),
    ("-e --env", 1, f"{_SHELL}: env NAME=value python manage.py runprod"),
    ("-u --user", 1, _USER),
    ("-g --group", 1, _USER),
    ("--initgroups", 0, _USER),
    ("-m --umask", 1, f"{_SHELL}: UMask= under systemd, or umask in the shell"),
    (
        "--forwarded-allow-ips",
        1,
        "X-Forwarded-Proto is left to Django: "
        'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")',
    ),
    ("--forwarder-headers", 1, "no header of a request changes SCRIPT_NAME or PATH_INFO"),
    ("--header-map", 1, _STRICT),
    ("--capture-output", 0, "redirect in the shell: 2>> FILE"),
    ("--logger-class", 1, _LOGGING),
    ("--log-config", 1, _LOGGING),
    ("--log-config-json", 1, _LOGGING),
    ("--log-syslog", 0, _SYSLOG),
    ("--log-syslog-to", 1, _SYSLOG),
    ("--log-syslog-prefix", 1, _SYSLOG),
    ("--log-syslog-facility", 1, _SYSLOG),
    ("--statsd-host", 1, _STATSD),
    ("--statsd-prefix", 1, _STATSD),
    ("--dogstatsd-tags", 1, _STATSD),
    ("--enable-backlog-metric", 0, _STATSD),
    ("--paste --paster", 1, _PASTE),
    ("--paste-global", 1, _PASTE),
    ("--proxy-protocol", "?", _PROXY),
    ("--proxy-allow-from", 1, _PROXY),
    ("--protocol", 1, _HTTP),
    ("--uwsgi-allow-from", 1, _HTTP),
    ("--http-protocols", 1, _HTTP),
    ("--http2-cleartext", 1, _HTTP),
    ("--http2-max-concurrent-streams", 1, _HTTP),
    ("--http2-initial-window-size", 1, _HTTP),
    ("--http2-max-frame-size", 1, _HTTP),
    ("--http2-max-header-list-size", 1, _HTTP),
    ("--keyfile", 1, _TLS),
    ("--certfile", 1, _TLS),
    ("--ssl-version", 1, _TLS),
    ("--cert-reqs", 1, _TLS),
    ("--ca-certs", 1, _TLS),
    ("--do-handshake-on-connect", 0, _TLS),
    ("--ciphers", 1, _TLS),
    ("--permit-obsolete-folding", 0, _STRICT),
    ("--strip-header-spaces", 0, _STRICT),
    ("--permit-unconventional-http-method", 0, _STRICT),
    ("--permit-unconventional-http-version", 0, _STRICT),
    ("--casefold-http-method", 0, _STRICT),
    ("--asgi-loop", 1, _ASGI),
    ("--asgi-lifespan", 1, _ASGI),
    ("--asgi-disconnect-grace-period", 1, _ASGI),
    ("--root-path", 1, _ASGI),
    ("--websocket-max-message-size", 1, _ASGI),
    ("--dirty-app", 1, _DIRTY),
    ("--dirty-workers", 1, _DIRTY),
    ("--dirty-timeout", 1, _DIRTY),
    ("--dirty-threads", 1, _DIRTY),
    ("--dirty-graceful-timeout", 1, _DIRTY),
    ("--control-socket", 1, _CONTROL),
    ("--control-socket-mode", 1, _CONTROL),
)

GUNICORN_FLAGS = tuple(
    GunicornFlag(tuple(names.split()), values, verdict, advice)
    for verdict, rows in ((Verdict.UNNEEDED, _UNNEEDED), (Verdict.REFUSED, _REFUSED))
    for names, values, advice in rows
)

GUNICORN_VARIABLES = {
    "GUNICORN_CMD_ARGS": "is not read; write the flags behind manage.py runprod",
    "FORWARDED_ALLOW_IPS": (
        "is not read; tell Django which header to trust: "
        'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")'
    ),
}
"""Variables that Gunicorn reads and this server does not, with what to do."""

# The names that differ from the flag's in a gunicorn.conf.py.
_KEYS = {
    "preload_app": "--preload",
    "sendfile": "--no-sendfile",
    "raw_env": "--env",
    "logconfig": "--log-config",
    "logconfig_json": "--log-config-json",
    "syslog": "--log-syslog",
}


def advice_for_key(key: str) -> str:
    """Return what is done with a setting of Gunicorn's by its name there; empty if none."""
    flag = _KEYS.get(key.lower(), "--" + key.lower().replace("_", "-"))
    return next((row.advice for row in GUNICORN_FLAGS if flag in row.names), "")
