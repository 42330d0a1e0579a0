"""
The messages that the second half of a log is about, and that it does not introduce.

Two processes read a log at the same time, a half each. In the second half there are deliveries and ends of messages
whose ``info msg`` is in the first, and notices about them. Such lines are put aside, with all that follows from them,
and told to the one who knows the first half. So the result is that of reading the log from its beginning to its end.
"""

from salt.loader.dunder import __opts__ as __opts__  # else Salt makes a copy for this module

# More than this, and the half is read again by the one who knows the first: memory is bounded.
MOST_LINES = 2**16
MOST_KNOWN = 2**18
MOST_ASKED = 2**17
# So far into the half, a notice whose bounce was not seen is likely to be one from the first half. Later on it is one
# from elsewhere, as long as the first half does not say otherwise.
WARM = 2**20


def strangers():
    """
    Return an object to put lines aside with, for ``qmail_log_message``.

    For ``qmail_log_message``.
    """
    return _Strangers()


class _Strangers:
    def __init__(self):
        self.known = set()  # messages that this half introduces
        self.notices = {}  # qp: whether the notice is about a stranger
        self.asked = set()  # qp of notices that are taken for those from elsewhere
        self.lines = []
        self.slot, self.done, self.is_warm, self.were_too_many = None, 0, False, False

    def are_too_many(self, size):
        """Return whether it is not worth while any more; ``size`` bytes come next."""
        self.is_warm, self.done = self.done >= WARM, self.done + size
        kept = (self.lines, MOST_LINES), (self.known, MOST_KNOWN), (self.asked, MOST_ASKED), (self.notices, MOST_ASKED)
        self.were_too_many = any(len(them) > most for them, most in kept)
        return self.were_too_many

    def say(self, words, now):
        """Put a line aside."""
        self.lines.append((self.slot, words, now))

    def sent(self, message, qp):
        """A message without a sender came. Return whether it is a notice about a stranger, and thus one itself."""
        about_stranger = self.notices.pop(qp, None)
        if about_stranger is None and self.is_warm:
            self.asked.add(qp)
            return False
        if about_stranger is not False:
            self.known.discard(message)
            return True
        return False

    def notified(self, message, qp):
        """A message bounced. Return whether it is a stranger."""
        self.notices[qp] = is_stranger = message not in self.known
        return is_stranger

    def state(self):
        """The lines, each with its slot and its time, and the notices that were not seen to be made."""
        return self.lines, self.asked
