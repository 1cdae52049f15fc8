"""The files of others: the article's JSON and our results, both ways."""

from tl_dream.interchange.reading import as_result, read_text_dream
from tl_dream.interchange.writing import write_text_dream
