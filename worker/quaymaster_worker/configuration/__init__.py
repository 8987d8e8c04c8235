"""What the environment says of this agent, read once at the start: every option, its checks, the two credentials."""
