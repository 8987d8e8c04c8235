"""`make demo`: the whole system on this machine, shown live and checked at the end."""
