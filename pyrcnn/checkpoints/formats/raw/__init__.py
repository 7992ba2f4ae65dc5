"""Bytes in files to tensors by name: pickles, archives and messages, under limits that no file can exceed."""
