"""What `lukhas doctor` finds out, one subject a module.

What belongs here: looking and judging. What does not: printing (`lukhas_redis.cli.doctor`).
Invariant: nothing is changed on any server; a question that the user may not ask becomes a warning that names the
right, never a failure of the whole examination.
"""
