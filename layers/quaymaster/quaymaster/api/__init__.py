"""The HTTP API: routes onto the dispatcher's use cases, and the one mapping of errors onto HTTP."""
