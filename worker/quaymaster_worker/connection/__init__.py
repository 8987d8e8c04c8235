"""The ways out: the broker over mutual TLS (`mqtt`), and presigned requests to the store (`uploads`)."""
