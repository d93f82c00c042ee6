"""Pages for each kind of reader, as `numroberta guide` prints them and `numroberta serve` links them."""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.guide.pages import TOPICS as TOPICS, page as page, title as title

__getattr__, __dir__ = door(__name__, {"pages": ("TOPICS", "page", "title")})
