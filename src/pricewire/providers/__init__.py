"""Adapters to whoever knows prices, one vendor a file; only the composition root imports them.

Invariant: each fulfils `services.fetching.Provider`, and what it hands out is either an exact quote
for the symbol that was asked for, with the raw answer behind it, or a typed `ProviderError`.
"""
