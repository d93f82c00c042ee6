"""One self-contained HTML page that shows what a model does with texts."""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.view.page import examine as examine, render as render, show as show

__getattr__, __dir__ = door(
    __name__,
    {
        "page": (
            "examine",
            "render",
            "show",
        ),
    },
)
