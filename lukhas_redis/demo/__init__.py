"""`lukhas demo`: four worker processes pass real agent runs from provider to provider, one of them is killed on the way.

What belongs here: the demonstration, from starting the server to the table at the end, and the conversation it ships.
What does not: the command line of `lukhas` (`cli.demo`).
Invariant: nothing of the user's is read or changed, and nothing the demo started is left behind unless `--keep` asks.
"""
