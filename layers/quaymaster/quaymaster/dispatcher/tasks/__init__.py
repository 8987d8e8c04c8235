"""Tasks on ECS: started for waiting runs (`launch.launch_tasks`) and followed (`follow.follow_launches`)."""
