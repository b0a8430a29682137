"""Experiments for one large GPU: a pack of crops that travels, and networks trained on it under left-out families."""
