"""Values and arithmetic. No clock, no I/O, no third-party import: time is an argument."""
