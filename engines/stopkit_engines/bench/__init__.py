"""Engines and their peers side by side: who meets whom, what each of them did, and a command for it."""
