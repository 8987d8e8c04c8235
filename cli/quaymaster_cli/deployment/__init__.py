"""The deployment that is meant: found (`target`), and its API called with signed requests (`client`)."""
