"""A direction between two sets of sentences, and the evidence for it."""

from tl_dream.concepts.examples import load_templates, read_examples, read_pairs
from tl_dream.concepts.fitting import fit_concept, fit_concepts
from tl_dream.concepts.readings import classify, sensitivity, vectors_of
from tl_dream.concepts.vectors import ConceptVector, ConceptVectors
