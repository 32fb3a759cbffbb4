"""A Django project whose WSGI application is not Django: the server's own cost."""
