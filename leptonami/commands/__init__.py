"""The commands of `leptonami`, one module each."""
