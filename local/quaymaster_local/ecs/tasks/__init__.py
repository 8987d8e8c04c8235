"""The tasks of the local ECS: agent processes with the states, events and metadata of Fargate's; `board` leads here."""
