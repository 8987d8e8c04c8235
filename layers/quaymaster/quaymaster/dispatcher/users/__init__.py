"""What users ask for: pools made, runs requested, both shown, and why a run waits; the API leads here."""
