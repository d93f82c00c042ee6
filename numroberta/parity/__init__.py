"""The porter's bench: record every activation, compare another program's with them, name the mistake.

recording        `trace`: every activation by name, and the file that holds them
loss             what the recorded gradients are of
files            recordings from files and arrays
matching         which of the reference's activations each of mine is
alignment        which texts of the batch mine holds, and its padding
names            the names of activations, their order, other programs' names
bench            `compare`: two recordings side by side
comparison       what a comparison found
measure          how far apart two activations are, and how far rounding may take them
layouts          other ports' layouts
fingerprints     hashes of each layer's numbers, the same on every machine
steps            the forward pass on demand, each step of it replaceable
mistakes/        the catalogue of classic mistakes, a file for each part of the network
dropout          dropout that was left on
evidence         other rows, another order, random weights: what the numbers show and nothing can compute
fitting          mistakes with a number in them that is fitted
search           which mistake explains a difference
budget           how much a search may compute
screening        one text, computed with a mistake before the batch is
side_by_side     the passes with many mistakes at once
below_tolerance  a mistake that 16-bit numbers hide, and still show
reporting        a comparison for people
beside_pytorch   `verify`: this library against PyTorch on your own checkpoint
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.parity import beside_pytorch as beside_pytorch
    from numroberta.parity.bench import compare as compare
    from numroberta.parity.comparison import Comparison as Comparison, TensorComparison as TensorComparison
    from numroberta.parity.files import (
        Recording as Recording,
        load_names as load_names,
        load_recording as load_recording,
    )
    from numroberta.parity.fingerprints import (
        fingerprint as fingerprint,
        fingerprint_lines as fingerprint_lines,
        first_difference as first_difference,
        read_fingerprint as read_fingerprint,
    )
    from numroberta.parity.recording import batch as batch, provenance as provenance, save as save, trace as trace
    from numroberta.parity.reporting import assert_matches as assert_matches, report as report

__getattr__, __dir__ = door(
    __name__,
    {
        "bench": ("compare",),
        "comparison": ("Comparison", "TensorComparison"),
        "files": ("Recording", "load_names", "load_recording"),
        "fingerprints": ("fingerprint", "fingerprint_lines", "first_difference", "read_fingerprint"),
        "recording": ("batch", "provenance", "save", "trace"),
        "reporting": ("assert_matches", "report"),
    },
)
