"""Running and comparing whole detectors: weights, contenders, and whether their results agree."""
