"""`python -m lukhas_redis` is the command `lukhas`.

What belongs here: nothing else. What does not: the command (`cli`).
Invariant: the exit code is the command's.
"""

import sys

from lukhas_redis.cli import main

if __name__ == "__main__":
    sys.exit(main())
