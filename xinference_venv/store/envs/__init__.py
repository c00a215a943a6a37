"""One environment on disk: composed, launched, inspected, verified."""
