"""A worker's life and its scheduler."""
