"""How things are shown: tables and colour, plain columns, JSON; and text of others that does no harm."""
