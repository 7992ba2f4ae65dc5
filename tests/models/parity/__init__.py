"""Models and their weights give the numbers of the libraries that published them."""
