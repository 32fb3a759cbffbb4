"""The example project, through Django's test client."""
