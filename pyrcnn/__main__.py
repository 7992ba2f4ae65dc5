"""``python -m pyrcnn`` is the ``pyrcnn`` command."""

from .cli import main

main()
