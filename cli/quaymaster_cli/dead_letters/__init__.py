"""`quaymaster dead-letters`."""
