"""What a library keeps track of."""
