"""Reference implementations in float64 and plain loops, written from the papers. They import torch and never pyrcnn."""
