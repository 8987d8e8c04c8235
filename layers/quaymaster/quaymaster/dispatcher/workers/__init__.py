"""What workers say (`worker_events.receive`), and what ECS says of their tasks (`task_events.task_stopped`)."""
