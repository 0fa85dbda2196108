"""`lukhas demo`: four worker processes pass agent runs from provider to provider, and one of them is killed.

What belongs here: the demonstration, from starting the server to the table at the end, and the conversation it ships.
What does not: the command line of `lukhas` (`cli.demo`).
Invariant: nothing of the user's is read or changed, and nothing the demo started is left behind unless `--keep` asks.
"""
