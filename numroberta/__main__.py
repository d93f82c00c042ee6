"""`python -m numroberta` is the command `numroberta`."""

import sys

from numroberta.cli import main

sys.exit(main())
