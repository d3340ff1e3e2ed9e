"""`python -m toss_sandbox` is the command `toss-sandbox`."""

import sys

from toss_sandbox.cli import main

sys.exit(main())
