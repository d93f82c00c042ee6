"""The exercises of the page `learn`, whose answers `test_pages.py` runs."""

import re

from pages import text_of


def test_each_of_the_eight_exercises_has_a_question_and_an_answer_that_runs():
    setting, *exercises = re.split(r"^### \d · ", text_of("learn").partition("\n## Exercises\n")[2], flags=re.MULTILINE)
    assert len(exercises) == 8
    assert setting.count("```python\n") == 1
    for exercise in exercises:
        assert exercise.count("```python\n") >= 1
        assert re.search(r"^\*.+\?\*$|^\*[^*]+\*", exercise, re.MULTILINE)
        assert "assert " in exercise
