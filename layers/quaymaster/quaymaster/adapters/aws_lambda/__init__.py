"""`ports.Functions` over Lambda."""
