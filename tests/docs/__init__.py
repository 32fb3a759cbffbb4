"""What the documentation tells people to type and to paste is true."""
