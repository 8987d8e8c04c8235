"""What a phase uses of its machine, sampled while it runs, and why it is slow where that tells."""
