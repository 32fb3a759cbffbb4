"""The configuration: one table, whatever source names a value."""
