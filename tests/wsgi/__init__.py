"""The ring around the application: values in, bytes out, all in memory."""
