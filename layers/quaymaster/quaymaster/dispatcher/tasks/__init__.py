"""Tasks on ECS: started for the tickets that no worker is there for, and followed until each is a worker or nothing;
`launch.launch_tasks` and `follow.follow_launches` lead here."""
