"""The pages of the site: the catalogue, and one page for each thing a server must handle."""
