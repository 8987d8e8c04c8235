"""The start of a function: each imports this first, and says when all that it needs is loaded.

Meanwhile no garbage is sought. What is loaded stays, and looking through it again and again is a tenth of a cold start;
afterwards it is left out of every search.
"""

import gc

gc.disable()


def over() -> None:
    """All modules are loaded, and the clients that every event needs are made."""
    gc.freeze()
    gc.enable()
