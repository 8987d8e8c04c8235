"""A worker's side of the protocol, pure: events and the time go in, actions come out; `worker.Worker` leads here."""
