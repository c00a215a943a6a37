"""What is there, who uses it, what may go: pure nouns and the states that live over time."""
