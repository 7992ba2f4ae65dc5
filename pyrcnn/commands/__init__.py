"""What the commands do, one file each. ``cli.py`` parses their arguments and imports the one that runs."""
