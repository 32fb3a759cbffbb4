"""The sockets that are listened on, and who holds an address that is taken."""

from __future__ import annotations

from django_wsgiserve.sockets.listeners import Listener, open_listeners, remove_socket_file

__all__ = ["Listener", "open_listeners", "remove_socket_file"]
