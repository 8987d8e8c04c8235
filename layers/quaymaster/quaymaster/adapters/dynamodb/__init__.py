"""`ports.Store` over DynamoDB."""
