"""`ports.Blobs` over S3, and presigned requests."""
