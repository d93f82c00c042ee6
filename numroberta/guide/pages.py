"""The pages by their topics.

A page is Markdown, and its title is `# Topic: what is there`.  Every block on it is run by the project's tests.
"""

from pathlib import Path

# In the order in which they are listed.
TOPICS = ("embed", "heads", "coming-from", "guests", "learn", "port", "scale", "spark", "serve", "reproducible",
          "fast", "limits", "changelog")  # fmt: skip


def page(topic: str) -> str:
    """The page of one of TOPICS."""
    return Path(__file__).with_name(f"{topic}.md").read_text("utf-8")


def title(topic: str) -> str:
    """What a page is about, in a line."""
    return page(topic).partition("\n")[0].partition(": ")[2]
