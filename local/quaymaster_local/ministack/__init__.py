"""ministack, which is every AWS service of the local cloud but ECS: started, and told what it does not know."""
