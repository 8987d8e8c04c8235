"""Input that nothing came of: shown, sent again, thrown away; the API leads here."""
