"""``pyrcnn detect``: what it reads, what it prints, and the annotated copies that it writes."""
