"""Data sets in other formats than COCO's. Each reader makes COCO's dictionary; all checks are COCO's."""
