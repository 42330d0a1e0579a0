"""What of the functions that people call only looks, and what changes something: SECURITY.md says the same."""

LOOK = {
    "qmail_control": ("get", "value", "lines", "show", "discards", "path"),
    # report writes a page where html= asks for one
    "qmail_doublebounce": ("settings", "status", "holds", "report", "causes", "overview"),
    "qmail_file": ("read", "kept", "version", "changed", "moment", "written", "is_ours"),
    "qmail_log": ("about", "count", "counts", "summary", "causes", "harm", "position", "tally", "lines_since"),
    "qmail_mailbox": (
        *("check", "predict", "meaning", "history", "split", "contents", "former", "has_plesk", "is_without_qmail"),
        *("ends", "places", "sinks"),
    ),
    "qmail_queue": ("summary", "glance", "unprocessed", "double_bounces", "each_double_bounce"),
    "qmail_route": ("resolve", "deliver", "recipients", "checks", "default_program", "catches_all"),
    "qmail_service": (
        *("status", "find", "left_down", "check", "missing", "idle", "unreadable", "last_words", "told"),
    ),
}
CHANGE = {
    "qmail_control": ("put", "restore"),
    "qmail_doublebounce": ("metrics", "probe"),  # metrics: keeps an account of the log
    "qmail_file": ("replace", "restore", "store"),  # store: with make=True
    "qmail_mailbox": ("make", "write", "restore", "purge", "take_out"),
    "qmail_queue": ("expire", "remove", "give_up"),
    "qmail_service": ("restart", "start", "stop", "directory"),  # directory: with make=True
}
