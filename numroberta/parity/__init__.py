"""The porter's bench: record every activation, compare another program's with them, name the mistake.

bench            `trace` and `compare`
diagnosis        which classic mistake explains a difference
layouts          other ports' layouts
fingerprints     hashes of each layer's numbers, the same on every machine
beside_pytorch   `verify`: this library against PyTorch on your own checkpoint
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.parity import beside_pytorch as beside_pytorch
    from numroberta.parity.bench import (
        Bench as Bench,
        Comparison as Comparison,
        Recording as Recording,
        Row as Row,
        assert_matches as assert_matches,
        batch as batch,
        compare as compare,
        provenance as provenance,
        read as read,
        read_names as read_names,
        report as report,
        save as save,
        trace as trace,
    )
    from numroberta.parity.fingerprints import (
        fingerprint as fingerprint,
        fingerprint_lines as fingerprint_lines,
        first_difference as first_difference,
        read_fingerprint as read_fingerprint,
    )

__getattr__, __dir__ = door(
    __name__,
    {
        "bench": (
            "Bench",
            "Comparison",
            "Recording",
            "Row",
            "assert_matches",
            "batch",
            "compare",
            "provenance",
            "read",
            "read_names",
            "report",
            "save",
            "trace",
        ),
        "fingerprints": ("fingerprint", "fingerprint_lines", "first_difference", "read_fingerprint"),
    },
)
