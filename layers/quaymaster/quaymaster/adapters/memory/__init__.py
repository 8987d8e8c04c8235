"""Every port in memory: what tests and the simulation run on, held to the same contract as the real ones."""
