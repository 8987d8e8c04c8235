"""`quaymaster run`: started, found, listed, shown and followed."""
