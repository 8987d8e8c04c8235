"""`ports.Tasks` over ECS."""
