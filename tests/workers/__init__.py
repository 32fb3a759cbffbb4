"""Workers over socketpairs and real listeners, without the processes around them."""
