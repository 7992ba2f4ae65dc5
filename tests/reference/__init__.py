"""Float64 oracles in plain loops, written from the papers. They import torch and never pyrcnn."""
