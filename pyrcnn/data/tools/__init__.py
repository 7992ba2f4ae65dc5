"""What the command line does with data sets: checks, converts and splits them."""
