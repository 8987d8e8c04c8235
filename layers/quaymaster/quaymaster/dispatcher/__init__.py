"""The use cases: read, decide, write, announce. A room for each thing that happens.

The table is the queue, messages are doorbells.

In the root stand what several rooms share: what becomes of a run whose worker is gone (`settle`), a worker taken out of
service (`release`), pools as they are looked up (`pool_cache`), and how one turn keeps many things apart (`apart`) and
within a function's life (`lifetime`).
"""
