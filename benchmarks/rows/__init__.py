"""The rows of the operators' table, by family."""
