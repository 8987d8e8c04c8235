"""What workers say, and what the broker and ECS say of them: `worker_events.receive` and `task_events.task_stopped` lead
here."""
