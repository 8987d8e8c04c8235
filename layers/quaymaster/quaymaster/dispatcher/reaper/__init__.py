"""What no event brings: deadlines that have passed, and what lost messages have left; `tick.tick` leads here."""
