"""What a worker knows: the attempt in its hand, what it remembers of others, and when it must say what."""
