"""The app with the database page."""
