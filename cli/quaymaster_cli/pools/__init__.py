"""`quaymaster pool` and `quaymaster worker`: pools and their secrets, and the workers in them."""
