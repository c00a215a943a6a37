"""What every layer uses: the codec of records, redaction, words for people, tasks."""
