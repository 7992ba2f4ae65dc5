"""Data sets: formats, batches, augmentation, and the commands that check, convert and split them."""
