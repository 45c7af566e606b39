"""The embedded AWS on 127.0.0.1: an optional extra that nothing else in leptonami imports."""
