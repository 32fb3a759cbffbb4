"""Five rings of tests, most of them innermost; see CONTRIBUTING.md."""
