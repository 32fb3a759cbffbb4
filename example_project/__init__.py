"""A small public library: the site that this server is developed and tested with."""
