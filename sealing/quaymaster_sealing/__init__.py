"""Keys and certificate requests of pools, for the agent and the command line."""
