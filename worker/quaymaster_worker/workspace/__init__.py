"""What a phase finds in its folder: a packed workspace and a large command, fetched and not trusted."""
