"""Verdicts: what the evidence says, with the line or the object that proves it. Pure, like the readers."""
