"""How records lie in items of the table, whatever store holds them: `codec.encode` and `codec.decode` lead here."""
