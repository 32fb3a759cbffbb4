"""Books, their copies on the shelf, and who has borrowed them."""
