"""The commands of ``pyrcnn data``, and the data sets that other commands take."""
