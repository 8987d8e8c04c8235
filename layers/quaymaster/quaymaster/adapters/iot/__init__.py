"""`ports.Messenger` and `ports.Certificates` over IoT Core."""
