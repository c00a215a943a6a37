"""The actors: thin, they hold tasks, locks and references; what to do is decided by the nouns."""
