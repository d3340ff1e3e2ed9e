"""`python -m payments` is the command `payments`."""

import sys

from payments.cli import main

sys.exit(main())
