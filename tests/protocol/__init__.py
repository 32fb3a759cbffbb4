"""Bytes in, values out: the protocol core without sockets, processes or time."""
