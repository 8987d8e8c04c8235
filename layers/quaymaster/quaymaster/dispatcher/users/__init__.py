"""What users ask for: pools made, runs requested, both shown, and why a run waits (`why.explain`); the API leads here."""
