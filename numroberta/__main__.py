"""`python -m numroberta` is the command `numroberta`."""

import sys


def main() -> int:
    """Run the command line; Ctrl-C ends it with a sentence even while NumPy is still being imported."""
    try:
        from numroberta.cli import main as command_line

        return command_line()
    except KeyboardInterrupt:
        print("numroberta: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
