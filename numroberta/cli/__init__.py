"""The command line: arguments in, one call, output out.

A file holds a command or a family of commands, each with its arguments beside its function:

embed       texts to vectors, printed or written to a file
search      the embedded texts nearest to a query
serve       models behind HTTP
tokenize    what the model reads in place of a text
info        what a checkpoint consists of
convert     a model as a new folder
view        a page that shows what the model does with a text
fingerprint hashes of what a model computes, to compare two machines
bench       `trace`, `compare` and `verify`, for whoever ports RoBERTa
finetune    a task taught to a model
heads       `fill-mask`, `classify`, `tag`, `answer` and `words`
guide       the pages that explain all this
commands    the list of all these
arguments   what several commands share: which model, which texts
streams     standard input, output and error, closed or not
endings     signals, and errors that have something to add
output      how vectors and answers are printed

Exit codes: 0 done, 1 a comparison that failed, 2 unusable input or arguments, 130 interrupted (Ctrl-C),
143 told to stop (SIGTERM).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from numroberta.cli.endings import Terminated, interrupted_at_the_end
from numroberta.cli.streams import discard_output, prepare_streams, why_output_cannot_be_written

NO_THREAD = "can't start new thread"  # what Python says where a computer allows no more


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    What cannot be done is a sentence on standard error.  NumPy and the commands are imported in here, so that Ctrl-C
    is one, too, while they are loaded.
    """
    try:
        prepare_streams()
        with interrupted_at_the_end():
            from numroberta.cli.commands import command_parser
        options = command_parser().parse_args((sys.argv[1:] if arguments is None else arguments) or ["--help"])
        warnings.showwarning = lambda message, *_: print(f"numroberta: {message}", file=sys.stderr)
        code = int(options.run(options) or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `numroberta … | head` has what it wants
        discard_output()
        return 0
    except (ValueError, TypeError, OSError) as error:
        complain(error, why_output_cannot_be_written())
        return 2
    except MemoryError as error:
        complain(error, "not enough memory" + (f": {error}" if str(error) else ", try --low-memory"))
        return 2
    except RuntimeError as error:
        if NO_THREAD not in str(error):
            raise
        complain(error, "this computer allows no more threads: give fewer with --threads")
        return 2
    except KeyboardInterrupt as error:
        complain(error, str(error) or "interrupted")
        return 143 if isinstance(error, Terminated) else 130


def complain(error: BaseException, sentence: str = "") -> None:
    """Say on standard error what is wrong, and what the error has to add in a line each."""
    for line in (sentence or error, *getattr(error, "__notes__", ())):
        print(f"numroberta: {line}", file=sys.stderr)
