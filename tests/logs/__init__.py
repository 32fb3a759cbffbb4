"""The logs: what a line says, and where its bytes go."""
