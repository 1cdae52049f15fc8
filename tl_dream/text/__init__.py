"""Text and tokens: prompts, the vocabulary, corpora."""

from tl_dream.text.corpora import Corpus, Shard, ShardReader
from tl_dream.text.encodings import read_lines
from tl_dream.text.prompts import DEFAULT_ALLOWED, Allowed, Positions, Prompt, Sentence, clean_text, prompts_of
from tl_dream.text.vocabulary import Vocabulary
