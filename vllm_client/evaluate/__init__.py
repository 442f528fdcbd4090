"""Scoring: log-likelihoods, choices and perplexity, exact in tokens."""

from __future__ import annotations

from .resource import Evaluate, LogLikelihoods
from .results import Choice, LogLikelihood, LogLikelihoodFailure, Perplexity, TokenColumns

__all__ = [
    "Choice",
    "Evaluate",
    "LogLikelihood",
    "LogLikelihoodFailure",
    "LogLikelihoods",
    "Perplexity",
    "TokenColumns",
]
