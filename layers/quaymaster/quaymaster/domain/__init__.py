"""What Quaymaster knows and decides: values in, values out; no I/O, no clock, no randomness."""
