"""Phases as containers: the engine, images and their pulls, and what an agent leaves behind when it dies."""
