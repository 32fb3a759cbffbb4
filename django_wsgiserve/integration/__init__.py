"""The only code that knows how Django keeps its connections, logs and views."""
