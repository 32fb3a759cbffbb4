"""PEP 3333 over the protocol: environ, body, gateway."""
