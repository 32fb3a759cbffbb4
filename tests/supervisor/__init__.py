"""The supervisor's decisions with literals, and its small parts with real descriptors."""
