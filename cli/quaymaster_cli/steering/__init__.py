"""`quaymaster run cancel`, `stop`, `confirm` and so on: what people do to runs, one or several at once."""
