"""Phases as processes of this host: started as a user of their own under a warden, found again, and ended."""
