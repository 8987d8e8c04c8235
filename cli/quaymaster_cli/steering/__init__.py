"""`quaymaster run cancel`, `stop`, `kill`, `extend`, `retry`: what people do to runs, one or several at once."""
