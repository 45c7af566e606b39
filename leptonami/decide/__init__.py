"""From evidence to a decision that can be checked again: options, criteria, claims, scores, and the record."""
