"""The streamed merge: ranges in, parts out."""
