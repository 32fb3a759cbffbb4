"""What the library does from the command line."""
