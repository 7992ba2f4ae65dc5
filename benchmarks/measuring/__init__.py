"""What the benchmarks measure with: clocks, the machine, inputs, contenders in other processes."""
