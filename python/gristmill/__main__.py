"""`python -m gristmill` is the command line."""

import sys

from gristmill import main

sys.exit(main())
