"""A phase's log on its way: from bytes to lines, chunks, a spool, and objects in the store; `phase_log` leads here."""
