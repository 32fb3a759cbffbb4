"""`manage.py runprod`: serve the project.

The command resolves the configuration and becomes the supervisor, in the same process.
The supervisor runs it again for each generation of the project; then it is the
forkserver. It does no serving itself.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
from functools import partial
from typing import Any, NoReturn

import django
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from django_wsgiserve import __version__, boot
from django_wsgiserve.boot import Boot
from django_wsgiserve.config import ServerConfig
from django_wsgiserve.config.command_line import (
    UNKNOWN_WORDS,
    CommandLine,
    add_arguments,
    read_command_line,
)
from django_wsgiserve.config.resolution import FORKSERVER_VARIABLE, Resolution, config_error, shown
from django_wsgiserve.errors import ConfigError, OperatorError
from django_wsgiserve.settings import resolve_project, settings_module

_EPILOG = (
    "Each flag is also a key of the WSGISERVE dict in settings.py (--max-requests is "
    "MAX_REQUESTS) and an environment variable (WSGISERVE_MAX_REQUESTS). A flag is "
    "stronger than the environment, the environment than the settings. Gunicorn's names "
    "are understood where they mean the same."
)


class _Parser(CommandParser):
    """A parser that keeps what it does not know, to be reported with all other problems."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options, unknown words among them."""
        options, unknown = self.parse_known_args(args, namespace)
        setattr(options, UNKNOWN_WORDS, unknown)
        return options


class Command(BaseCommand):
    """Serves this project in production."""

    help = "Serves this project in production: settings.WSGI_APPLICATION over HTTP."
    # The configuration's checks are run here, so that all of its problems are listed at
    # once. All others are run by the forkserver, on the code that will be served.
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser of this command."""
        parser = super().create_parser(prog_name, subcommand, epilog=_EPILOG, **kwargs)
        # Django makes a CommandParser and asks nobody.
        parser.__class__ = _Parser
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the flags of the configuration, and those that only look at it."""
        instead = parser.add_argument_group("Instead of serving")
        instead.add_argument(
            "--check-config",
            action="store_true",
            help="Say ok, or list every problem and exit with code 2.",
        )
        instead.add_argument(
            "--print-config",
            action="store_true",
            help="Show every value and where it came from.",
        )
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve, or do what was asked for instead."""
        command = read_command_line(options)
        if FORKSERVER_VARIABLE in os.environ:
            # Not needed to become the supervisor, and it imports what only it needs.
            from django_wsgiserve.forkserver import main

            sys.exit(main(partial(_configuration, command)))
        try:
            resolution = _resolved(command)
            if not (options["check_config"] or options["print_config"]):
                _check_ready_fd(resolution.config.ready_fd)
        except OperatorError as error:
            self.stderr.write(str(error), self.style.ERROR)
            sys.exit(error.exit_code)
        if options["check_config"] or options["print_config"]:
            self._report(resolution, in_full=options["print_config"])
            return
        _become_supervisor(resolution)

    def _report(self, resolution: Resolution, *, in_full: bool) -> None:
        for note in resolution.notes:
            self.stderr.write(f"note: {note}")
        self.stdout.write(shown(resolution) if in_full else "ok")


def _resolved(command: CommandLine) -> Resolution:
    """Return the resolved configuration.

    Raises:
        ConfigError: It has problems; the message lists them all.
    """
    resolution = resolve_project(command)
    if resolution.problems:
        raise config_error(resolution.problems)
    return resolution


def _check_ready_fd(fd: int) -> None:
    """Hold `--ready-fd` to a descriptor that is the starter's.

    Raises:
        ConfigError: It is not. The line would go to whatever the server opens as `fd`.
    """
    if 0 <= fd < boot.LOWEST_FD:
        raise ConfigError(
            f"--ready-fd {fd} is a standard stream, and would be closed after the first line",
            "Pass on a descriptor of its own: --ready-fd 3 3>ready.json",
        )
    if fd >= 0 and not boot.is_inherited(fd):
        raise ConfigError(
            f"--ready-fd {fd} is not a descriptor that this process was given to write to",
            f"Open it where the server is started: --ready-fd {fd} {fd}>ready.json",
        )


def _configuration(command: CommandLine) -> ServerConfig:
    return _resolved(command).config


def _become_supervisor(resolution: Resolution) -> NoReturn:
    """Replace this program by the supervisor; the process stays."""
    environment = boot.initial_environment()
    state = Boot(
        config=resolution.config,
        argv=boot.same_command(),
        cwd=boot.logical_directory(os.environ, (sys.executable, *sys.orig_argv[1:])),
        notes=resolution.notes,
        settings_module=settings_module(),
        wsgi_application=settings.WSGI_APPLICATION or "",
        versions={
            "python": platform.python_version(),
            "django": django.get_version(),
            "wsgiserve": __version__,
        },
    )
    command = boot.supervisor_command(state.to_fd())
    _close_connections()
    logging.shutdown()
    boot.flush_standard_streams()
    boot.hold_standard_streams()
    os.execve(command[0], command, environment)  # noqa: S606 - no shell is wanted


def _close_connections() -> None:
    """Say goodbye to databases: their sockets end with this program, unannounced."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        if close_pool := getattr(connection, "close_pool", None):
            close_pool()
