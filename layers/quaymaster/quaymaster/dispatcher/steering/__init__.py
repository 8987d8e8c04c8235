"""What people do to a run: cancel (`cancel.cancel_run`), stop and kill, extend, retry; the API leads here."""
