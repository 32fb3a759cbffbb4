"""A project with a view for everything a server must get through."""
