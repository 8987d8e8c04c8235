"""ECS on this machine: its API over HTTP, and IAM asked about each call; `endpoint` leads here."""
