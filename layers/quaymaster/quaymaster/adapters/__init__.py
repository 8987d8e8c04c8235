"""The ports of `quaymaster.ports`, fulfilled: a folder for each technology. `wiring.py` shows which fulfils which."""
