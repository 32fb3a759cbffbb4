"""The process that owns the sockets and never imports the project."""
