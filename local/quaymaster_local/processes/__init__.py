"""Processes of the local cloud: started in sessions of their own, tied to who started them, on free ports."""
