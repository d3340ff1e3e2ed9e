"""`python -m demo_shop` is the command `demo-shop`."""

import sys

from demo_shop.cli import main

sys.exit(main())
