"""An attempt in hand, from its assignment to its last upload; `attempt_runner` leads here."""
